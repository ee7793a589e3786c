"""Trust: what was signed, by whom, and whether it may still be used."""
