"""The story of the README: a small real fleet does the whole job. The demo shows it, a test asserts it."""
