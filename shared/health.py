"""Whether this server can serve, said without a secret."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from shared import __version__
from shared.openrouter import Endpoint

if TYPE_CHECKING:
    from shared.services import Services


async def report(services: Services) -> dict[str, Any]:
    """{status ok|degraded|unavailable, database ok|down, openrouter_key, worker, version, problems[]}.

    `worker` is not_configured, ok, no_model (it is there, but has no model loaded) or down. Without an OpenRouter key
    a working worker serves alone. `problems` has one sentence for each setting that is missing or wrong. Values of
    settings are never shown.
    """
    settings = services.settings
    database, worker = await asyncio.gather(services.database.check(), _worker(services))
    key = settings.openrouter_api_key is not None
    problems = settings.problems()
    return {
        "status": _status(
            serves=database and (key or worker == "ok"),
            complete=not problems and worker in ("ok", "not_configured"),
        ),
        "database": "ok" if database else "down",
        "openrouter_key": key,
        "worker": worker,
        "version": __version__,
        "problems": list(problems),
    }


def can_serve(report: dict[str, Any]) -> bool:
    """Whether a load balancer should send requests here."""
    return bool(report["status"] != "unavailable")


def _status(*, serves: bool, complete: bool) -> str:
    if not serves:
        return "unavailable"
    return "ok" if complete else "degraded"


async def _worker(services: Services) -> str:
    settings = services.settings
    if settings.chat_worker_url is None:
        return "not_configured"
    endpoint = Endpoint(settings.chat_worker_url, settings.chat_worker_token or "", kind="openai_compatible")
    return await services.chat_worker.health(endpoint)
