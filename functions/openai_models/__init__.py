"""The door `openai/v1/models`."""
