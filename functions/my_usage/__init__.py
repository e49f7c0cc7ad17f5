"""The door `my-usage`."""
