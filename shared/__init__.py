"""What the doors share: one file per noun of the domain."""

__version__ = "0.1.0"
