"""The doors: one folder per deployed function, the same file names in each."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.edge import Door


def all_doors() -> list[Door]:
    """Every door, in the order of the folders' names."""
    return [
        import_module(f"functions.{folder.name}.handler").door
        for folder in pkgutil.iter_modules(__path__)
        if folder.ispkg
    ]
