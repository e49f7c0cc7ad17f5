"""The door `prompt-enhancement`."""
