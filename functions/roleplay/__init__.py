"""The door `roleplay`."""
