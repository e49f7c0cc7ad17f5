"""The door `openapi.json`."""
