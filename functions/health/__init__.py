"""The door `health`."""
