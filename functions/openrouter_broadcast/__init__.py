"""The door `openrouter-broadcast`."""
