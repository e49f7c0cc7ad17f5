"""The door `usage-stats`."""
