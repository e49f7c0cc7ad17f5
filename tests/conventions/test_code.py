"""Conventions of the code that a program can check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOORS = sorted(folder.name for folder in (ROOT / "functions").iterdir() if (folder / "handler.py").exists())
HEAVY = ("supabase", "asyncpg", "boto3", "mangum", "uvicorn", "jwt", "cryptography", "aiohttp")


@pytest.mark.parametrize("door", DOORS)
def test_a_door_loads_nothing_heavy(door: str) -> None:
    """Every user pays for a cold start: what is heavy is imported on first use."""
    program = f"import sys, functions.{door}.handler; print(' '.join(m for m in {HEAVY!r} if m in sys.modules), end='')"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert loaded.stdout == ""


@pytest.mark.parametrize("door", DOORS)
def test_a_handler_is_short_and_has_no_try(door: str) -> None:
    """A door calls one shared function; what two doors would share belongs to shared/."""
    source = (ROOT / "functions" / door / "handler.py").read_text()

    assert "try:" not in source
    assert len(source.splitlines()) <= 40


def test_every_folder_is_a_door() -> None:
    """A folder of functions/ that is not served would be forgotten."""
    from functions import all_doors

    folders = {path.name for path in (ROOT / "functions").iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert folders == set(DOORS)
    assert len(all_doors()) == len(DOORS)


def test_no_model_name_stands_in_python() -> None:
    """What an admin may change is a row: models and prices are in SQL."""
    vendors = ("anthropic/", "openai/gpt", "meta-llama/", "mistralai/")
    found = [
        str(path.relative_to(ROOT))
        for room in ("functions", "shared")
        for path in (ROOT / room).rglob("*.py")
        if any(vendor in path.read_text() for vendor in vendors)
    ]
    assert found == []
