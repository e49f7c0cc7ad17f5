"""The door `openai/v1/chat/completions`."""
