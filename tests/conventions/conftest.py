"""The whole house, for conventions that are seen from outside."""

from tests.house import House, house, simulator

__all__ = ["House", "house", "simulator"]
