"""The dashboard: pages rendered on the server over the same service functions that the API uses."""
