"""Drift detection on data that nobody here made, beside Evidently, NannyML, River and whylogs."""
