"""Access tokens for development, shaped like Supabase's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

# Fixed, so that the ledger of yesterday still belongs to the user of today.
USER = "00000000-0000-4000-8000-000000000001"
ADMIN = "00000000-0000-4000-8000-00000000000a"

LIFETIME = timedelta(days=30)
ISSUER = "openrouter-functions/local"


def token(
    secret: str,
    *,
    sub: str | None,
    role: str = "authenticated",
    admin: bool = False,
    lifetime: timedelta = LIFETIME,
    now: datetime | None = None,
) -> str:
    """An HS256 token for this user; `sub` is None for a server (`service_role`), `admin` adds the admin claim."""
    issued = now if now is not None else datetime.now(UTC)
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "authenticated",
        "role": role,
        "iat": issued,
        "exp": issued + lifetime,
        "app_metadata": {"role": "admin"} if admin else {},
    }
    if sub is not None:
        claims["sub"] = sub
    return jwt.encode(claims, secret, algorithm="HS256")
