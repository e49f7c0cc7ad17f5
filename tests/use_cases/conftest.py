"""The whole house, for tests of what people use it for."""

from tests.house import ANN, JWT_SECRET, House, Simulator, house, signed_in, simulator

__all__ = ["ANN", "JWT_SECRET", "House", "Simulator", "house", "signed_in", "simulator"]
