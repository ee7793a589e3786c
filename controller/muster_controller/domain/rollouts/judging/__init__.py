"""What was seen of a version, and what follows from it."""
