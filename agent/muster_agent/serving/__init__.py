"""Serving predictions on this device: the Open Inference Protocol over a Unix socket."""
