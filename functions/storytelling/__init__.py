"""The door `storytelling`."""
