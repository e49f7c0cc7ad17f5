"""The door `casual-chat`."""
