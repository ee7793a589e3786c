"""Deltas: a file made of one that is there and a small patch. Pure: bytes in, bytes out."""

from muster_models.delta.codec import Patch, decode, encode, is_worth, known_forms, memory_needed, try_forms

__all__ = ["Patch", "decode", "encode", "is_worth", "known_forms", "memory_needed", "try_forms"]
