"""The whole database interface: call an SQL function by name, get JSON back.

Two back ends behind the same `call`: asyncpg when DATABASE_URL is set, supabase-py (PostgREST) otherwise.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

from shared.errors import (
    BudgetExceeded,
    ConfigError,
    Conflict,
    Detail,
    Failure,
    Forbidden,
    Internal,
    InvalidRequest,
    LimitExceeded,
    ModelNotFound,
    NotFound,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    import asyncpg
    import httpx
    from pydantic import SecretStr
    from supabase import AsyncClient

    from shared.identity import Caller
    from shared.settings import Settings

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 10.0
POOL_SIZE = 10

_FAILURES: dict[str, type[Failure]] = {
    kind.code: kind
    for kind in (
        BudgetExceeded,
        ConfigError,
        Conflict,
        Forbidden,
        InvalidRequest,
        LimitExceeded,
        ModelNotFound,
        NotFound,
        Unauthenticated,
        Unavailable,
    )
}


class Database(Protocol):
    """What the rest of the project knows of the database."""

    async def call(self, name: str, params: Mapping[str, Any], caller: Caller | None = None) -> Any:
        """Call the SQL function `public.<name>` with named parameters and return its JSON.

        Without a caller it runs as the server; with a user or admin it runs as that user, under RLS.
        Raises a `Refused` failure when the function refuses (SQLSTATE PTxyz), `Unavailable` when the database
        does not answer, `Internal` for anything else.
        """
        ...

    async def check(self) -> bool:
        """Whether the database answers now. Never raises."""
        ...

    async def close(self) -> None: ...


def failure(code: str, message: str, field: str | None = None) -> Failure:
    """The exception for a refusal that SQL made: its stable code, its message, the field it names."""
    kind = _FAILURES.get(code, Internal)
    if kind is Internal:
        return Internal()
    return kind(message, details=[Detail(field, message)] if field else [])


def connect(settings: Settings, http: httpx.AsyncClient) -> Database:
    """The back end that the settings ask for. Opens no connection yet."""
    if settings.database_url is not None:
        return Postgres(settings.database_url)
    if settings.supabase_url is not None and settings.supabase_secret_key is not None:
        return PostgREST(settings.supabase_url, settings.supabase_secret_key, http)
    return Missing()


class Missing:
    """No database is configured: every call says so."""

    async def call(self, name: str, params: Mapping[str, Any], caller: Caller | None = None) -> Any:
        raise ConfigError("No database is configured: set DATABASE_URL, or SUPABASE_URL and SUPABASE_SECRET_KEY")

    async def check(self) -> bool:
        return False

    async def close(self) -> None:
        return


class Postgres:
    """asyncpg. 0.4 ms per call on the same machine."""

    def __init__(self, url: SecretStr) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def call(self, name: str, params: Mapping[str, Any], caller: Caller | None = None) -> Any:
        import asyncpg

        arguments = ", ".join(f"{_identifier(key)} => ${position}" for position, key in enumerate(params, start=1))
        query = f"select public.{_identifier(name)}({arguments})"
        try:
            pool = await self._open()
            async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                if caller is None or caller.kind == "service":
                    return await connection.fetchval(query, *params.values())
                async with connection.transaction():
                    await connection.execute(
                        "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)",
                        json.dumps(dict(caller.claims)),
                        "anon" if caller.kind == "anonymous" else "authenticated",
                    )
                    return await connection.fetchval(query, *params.values())
        except asyncpg.PostgresError as error:
            raise _translate(error.sqlstate or "", error.as_dict()) from error
        except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
            raise Unavailable("The database does not answer") from error

    async def check(self) -> bool:
        import asyncpg

        try:
            pool = await self._open()
            async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                return bool(await connection.fetchval("select true", timeout=CONNECT_TIMEOUT_S))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def _open(self) -> asyncpg.Pool:
        if self._pool is not None:
            return self._pool
        import asyncpg

        async with self._opening:
            if self._pool is None:
                url = self._url.get_secret_value()
                self._pool = await asyncpg.create_pool(
                    _without_marker(url),
                    min_size=0,
                    max_size=POOL_SIZE,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=CALL_TIMEOUT_S,
                    init=speak_json,
                    reset=leave_clean,
                    **({"statement_cache_size": 0} if _is_transaction_pooler(url) else {}),
                )
        return self._pool


class PostgREST:
    """supabase-py: needs only a URL and a key. 2.2 ms per call on the same machine."""

    def __init__(self, url: str, key: SecretStr, http: httpx.AsyncClient) -> None:
        self._url = url
        self._key = key
        self._http = http
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def call(self, name: str, params: Mapping[str, Any], caller: Caller | None = None) -> Any:
        import httpx
        from postgrest.exceptions import APIError

        client = (await self._open()).postgrest
        if caller is not None and caller.kind != "service":
            # A client of its own: the token must never sit on the shared client's headers.
            client = client.schema("public")
            client.auth(caller.token.get_secret_value() if caller.token is not None else None)
        try:
            response = await client.rpc(_identifier(name), json.loads(_to_json(dict(params)))).execute()
        except APIError as error:
            raise _translate(
                error.code or "", {"message": error.message, "hint": error.hint, "detail": error.details}
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable("The database does not answer") from error
        return _exact(response.data)

    async def check(self) -> bool:
        try:
            await self.call("get_models", {})
        except Failure:
            return False
        return True

    async def close(self) -> None:
        return

    async def _open(self) -> AsyncClient:
        if self._client is not None:
            return self._client
        # 0.6 s of import, paid on the first call and not by the cold start of every door.
        from supabase import AsyncClientOptions, create_async_client

        async with self._opening:
            if self._client is None:
                self._client = await create_async_client(
                    self._url,
                    self._key.get_secret_value(),
                    AsyncClientOptions(
                        httpx_client=self._http,
                        postgrest_client_retry=False,
                        auto_refresh_token=False,
                        persist_session=False,
                    ),
                )
        return self._client


def _translate(sqlstate: str, error: Mapping[str, Any]) -> Failure:
    """One table for both back ends: code and hint decide, never the message."""
    if sqlstate.startswith("PT"):
        return failure(
            str(error.get("hint") or ""), str(error.get("message") or ""), str(error.get("detail") or "") or None
        )
    if sqlstate in ("42501", "PGRST301", "PGRST302", "PGRST303"):
        return Forbidden()
    # Connection, resources, operator intervention; PostgREST's own "no connection" group.
    if sqlstate[:2] in ("08", "53", "57") or sqlstate in ("PGRST000", "PGRST001", "PGRST002", "PGRST003"):
        return Unavailable("The database does not answer")
    return Internal()


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"not an SQL name: {name!r}")
    return name


# Made once: json.dumps and json.loads make a new one for every call that is not plain.
# Decimal, UUID and datetime travel as text: exact, and SQL casts them.
_to_json = json.JSONEncoder(default=str, ensure_ascii=False).encode
_from_json = json.JSONDecoder(parse_float=Decimal).decode


def _exact(value: Any) -> Any:
    """supabase-py parses numbers as floats; their shortest form is the decimal that was sent."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return value


async def leave_clean(connection: asyncpg.Connection) -> None:
    """What is done between two calls on a connection: nothing, which spares each call a second round trip.

    A call leaves nothing behind to be undone: it is one statement, or one transaction whose role and claims are local
    to it. asyncpg has already rolled back what was cut off in the middle.
    """


async def speak_json(connection: asyncpg.Connection) -> None:
    """Make jsonb come and go as values on this connection; numbers as exact decimals."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=_from_json)


def _is_transaction_pooler(url: str) -> bool:
    """Whether prepared statements cannot be kept: Supavisor's 6543, or any other marked with `?pgbouncer=true`."""
    parts = urlsplit(url)
    return parts.port == 6543 or parse_qs(parts.query).get("pgbouncer") == ["true"]


def _without_marker(url: str) -> str:
    return re.sub(r"([?&])pgbouncer=true(&|$)", lambda hit: hit[1] if hit[2] else "", url)
