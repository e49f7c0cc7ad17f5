"""The description of the API against the API: schemathesis makes requests from it, sound and unsound ones."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from local.tokens import token
from tests.house import JWT_SECRET, House

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "ignored_auth"),
)
# Made up per door, beside those that its schema suggests.
EXAMPLES = 3
TIME_LIMIT_S = 240


async def test_no_door_answers_what_is_not_described(house: House, tmp_path: Path) -> None:
    """No 500, no status, content type or field that the description does not have, no door without its lock."""
    secret = house.services.settings.webhook_secret
    assert secret is not None
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(
        f"""
        continue-on-failure = true
        suppress-health-check = ["all"]
        color = false
        warnings = false
        [generation]
        max-examples = {EXAMPLES}
        deterministic = true
        [checks.not_a_server_error]
        # What the description has of 502 to 504 is said when a provider or the database does not answer.
        expected-statuses = ["2xx", "3xx", "4xx", "502", "503", "504"]
        [phases.coverage]
        unexpected-methods = []
        [phases.coverage.generation]
        mode = "positive"
        [phases.stateful]
        enabled = false
        [auth.openapi]
        user = {{ bearer = {json.dumps(token(JWT_SECRET, sub=None, role="service_role"))} }}
        webhook = {{ api_key = {json.dumps(secret.get_secret_value())} }}
        """
    )

    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)),
        *("run", f"{house.http.base_url}/openapi.json", "--checks", ",".join(CHECKS)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # It keeps what it found beside itself.
        cwd=tmp_path,
    )
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            output, _ = await run.communicate()
    finally:
        if run.returncode is None:
            run.kill()
            await run.wait()

    assert run.returncode == 0, output.decode()
