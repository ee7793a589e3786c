"""Measuring what models see: rows to windows, and the outbox that holds them until they are stored."""
