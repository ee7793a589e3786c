"""Alarms once they exist: who is told of them and when, who hides them, what is done about them. Pure."""
