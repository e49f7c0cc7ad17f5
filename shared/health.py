"""Whether this server can serve, said without a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared import __version__

if TYPE_CHECKING:
    from shared.services import Services


async def report(services: Services) -> dict[str, Any]:
    """{status ok|degraded|unavailable, database ok|down, openrouter_key, worker, version, problems[]}.

    `problems` has one sentence for each setting that is missing or wrong. Values of settings are never shown.
    """
    settings = services.settings
    database = await services.database.check()
    key = settings.openrouter_api_key is not None
    problems = settings.problems()
    return {
        "status": _status(serves=database and key, problems=problems),
        "database": "ok" if database else "down",
        "openrouter_key": key,
        "worker": "configured" if settings.chat_worker_url else "not_configured",
        "version": __version__,
        "problems": list(problems),
    }


def can_serve(report: dict[str, Any]) -> bool:
    """Whether a load balancer should send requests here."""
    return bool(report["status"] != "unavailable")


def _status(*, serves: bool, problems: tuple[str, ...]) -> str:
    if not serves:
        return "unavailable"
    return "degraded" if problems else "ok"
