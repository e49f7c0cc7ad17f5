"""The door `sweep`."""
