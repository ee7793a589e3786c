"""Read models: page-ready views, straight from the tables. Frozen, complete, never a row."""
