"""The door `models`."""
