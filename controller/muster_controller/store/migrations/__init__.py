"""How the tables came to be as they are; run by ``store.engine.migrate``."""
