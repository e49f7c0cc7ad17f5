"""The door `compare-models`."""
