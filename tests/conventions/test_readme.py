"""What the README says of doors and faults is what there is."""

from __future__ import annotations

from dataclasses import fields

from functions import all_doors
from shared.settings import Settings
from tests.conventions.test_code import ROOT

README = (ROOT / "README.md").read_text()


def test_every_door_stands_in_the_readme() -> None:
    """A door that nobody reads about is not used."""
    missing = [door.name for door in all_doors() if f"`{door.name}`" not in README]

    assert missing == []


def test_the_fault_grid_in_the_readme_is_the_tested_one() -> None:
    """The table is proved row by row in test_fault_grid.py; the copy must not drift."""
    grid = (ROOT / "tests" / "use_cases" / "fault_grid.md").read_text()
    rows = [line for line in grid.splitlines() if line.startswith("|")]

    assert [row for row in rows if row not in README.splitlines()] == []


def test_every_setting_stands_in_the_readme() -> None:
    """Names of environment variables are part of the contract."""
    names = [field.name.upper() for field in fields(Settings) if not field.name.startswith("_")]

    assert [name for name in names if f"`{name}`" not in README] == []
