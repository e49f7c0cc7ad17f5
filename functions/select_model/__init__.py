"""The door `select-model`."""
