"""What a cold start pays for the edge."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    *("supabase", "asyncpg", "jwt", "cryptography", "mangum", "boto3", "uvicorn", "aiohttp", "httpx"),
    "aws_lambda_powertools",
)


@pytest.mark.parametrize("module", ["shared.edge", "shared.identity", "shared.settings", "shared.observability"])
def test_importing_the_edge_imports_nothing_heavy(module: str) -> None:
    """Clients, servers and cryptography are imported when they are first needed."""
    program = (
        f"import sys, {module}; print(*[name for name in {(*HEAVY, 'aws_lambda_powertools')!r} if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert found.stdout.split() == []
