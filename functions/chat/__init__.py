"""The door `chat`."""
