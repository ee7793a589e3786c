"""The agent: runs signed models on one device and reports what they see."""
