"""Sketches: what a model saw, as counts over the bins of its baseline. Pure: arrays in, values out."""
