"""The truth that comes late: counts of labelled predictions, intervals, concept drift, estimates. Pure."""
