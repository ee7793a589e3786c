"""Telling receivers: what goes into the outbox with each change, and the couriers that carry it."""
