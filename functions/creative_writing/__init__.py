"""The door `creative-writing`."""
