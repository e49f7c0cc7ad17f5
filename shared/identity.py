"""Who is calling: reads a Supabase token or key and says what kind of caller holds it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import SecretStr
from pydantic_core import from_json

from shared.errors import ConfigError, Forbidden, Unauthenticated, Unavailable

if TYPE_CHECKING:
    import httpx

    from shared.settings import Settings

CallerKind = Literal["anonymous", "user", "admin", "service"]

LEEWAY: Final = timedelta(seconds=10)
# A checked signature stays checked: a client that asks again within a minute saves 0.2 ms. Times are checked anew.
REMEMBERED_FOR: Final = timedelta(minutes=1)
REMEMBERED_MAX: Final = 1_000
KEYS_FRESH_FOR: Final = timedelta(minutes=10)
REFETCH_AFTER: Final = timedelta(seconds=30)
KEYS_TIMEOUT_S: Final = 5.0
KEYS_MAX_BYTES: Final = 256_000
TOKEN_MAX_CHARS: Final = 16_000

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `user_id` is a UUID for users and admins, None otherwise; `token` is what they presented."""

    kind: CallerKind
    user_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    token: SecretStr | None = field(default=None, repr=False)


ANONYMOUS: Final = Caller("anonymous")


class Identity:
    """Checks tokens and keys against this project's configuration.

    The configuration chooses the algorithm: HS256 when SUPABASE_JWT_SECRET is set, else RS256 and ES256
    with the public keys of SUPABASE_URL. A token never chooses, so no key is used for another's algorithm.
    """

    def __init__(
        self,
        settings: Settings,
        http_factory: Callable[[], httpx.AsyncClient],
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._verified: dict[bytes, _Verified] = {}
        self._keys = None if settings.supabase_url is None else PublicKeys(settings.supabase_url, http_factory, clock)

    async def identify(self, authorization: str | None, apikey: str | None) -> Caller:
        """The caller behind these two headers; anonymous when there is neither.

        `authorization` wins when both are present: supabase-js always sends the project's key as `apikey`.
        Raises Unauthenticated (missing, malformed, expired, wrongly signed), Forbidden (a role that is not ours),
        Unavailable (the public keys cannot be fetched) and ConfigError (no way to check tokens is configured).
        """
        if authorization:
            return await self._holder_of(_bearer_token(authorization))
        if apikey:
            caller = await self._holder_of(apikey.strip())
            if caller.user_id is not None:
                raise Unauthenticated("A user's access token belongs in the Authorization header, not in apikey")
            return caller
        return ANONYMOUS

    async def _holder_of(self, credential: str) -> Caller:
        if len(credential) > TOKEN_MAX_CHARS:
            raise Unauthenticated("The access token is malformed: it is too long")
        secret_key = self._settings.supabase_secret_key
        if secret_key is not None and _same(credential, secret_key.get_secret_value()):
            return Caller("service", token=SecretStr(credential))
        if credential.startswith("sb_publishable_"):
            return Caller("anonymous", token=SecretStr(credential))
        if credential.count(".") != 2:
            raise Unauthenticated("The access token is malformed: it is neither a JWT nor a key of this project")
        fingerprint = hashlib.sha256(credential.encode()).digest()
        remembered = self._verified.get(fingerprint)
        if remembered is not None and self._clock() - remembered.at < REMEMBERED_FOR:
            self._check_times(remembered.caller.claims)
            return remembered.caller
        claims = await self._verified_claims(credential)
        self._check_times(claims)
        caller = _caller_of(claims, credential)
        self._verified.pop(fingerprint, None)
        self._verified[fingerprint] = _Verified(caller, self._clock())
        if len(self._verified) > REMEMBERED_MAX:
            del self._verified[next(iter(self._verified))]
        return caller

    async def _verified_claims(self, token: str) -> dict[str, Any]:
        # Imported on first use: with cryptography it costs a cold start more than the rest of this room.
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("The access token is malformed: its header cannot be read") from None
        algorithm, key = await self._key_for(header)
        try:
            # Times, subject and role are checked below, with our clock and our words.
            return jwt.decode(token, key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError:
            raise Unauthenticated("The access token is not valid: its signature is wrong") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("The access token is malformed: it cannot be read") from None

    async def _key_for(self, header: Mapping[str, Any]) -> tuple[str, Any]:
        secret = self._settings.supabase_jwt_secret
        if secret is not None:
            if header.get("alg") != "HS256":
                raise Unauthenticated("The access token is signed with the wrong algorithm: HS256 is required")
            return "HS256", secret.get_secret_value()
        if self._keys is None:
            raise ConfigError("No access token can be checked: SUPABASE_JWT_SECRET or SUPABASE_URL must be set")
        if header.get("alg") not in ("RS256", "ES256"):
            raise Unauthenticated("The access token is signed with the wrong algorithm: RS256 or ES256 is required")
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise Unauthenticated("The access token is malformed: it names no key (kid)")
        public_key = await self._keys.find(kid)
        if header["alg"] != public_key.algorithm:
            raise Unauthenticated("The access token is signed with the wrong algorithm for its key")
        return public_key.algorithm, public_key.key

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock().timestamp()
        leeway = LEEWAY.total_seconds()
        expires = _timestamp(claims, "exp")
        if expires is None:
            raise Unauthenticated("The access token is malformed: it names no expiry (exp)")
        if now >= expires + leeway:
            raise Unauthenticated("The access token has expired")
        not_before = _timestamp(claims, "nbf")
        if not_before is not None and now < not_before - leeway:
            raise Unauthenticated("The access token is not valid yet")


@dataclass(frozen=True, slots=True)
class _Verified:
    """A caller whose token's signature was checked, and when."""

    caller: Caller
    at: datetime


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One verified public key, bound to the only algorithm that it may check."""

    algorithm: Literal["RS256", "ES256"]
    key: Any


class PublicKeys:
    """The public keys of one Supabase project (JWKS), fetched when needed and kept for ten minutes."""

    def __init__(
        self, supabase_url: str, http_factory: Callable[[], httpx.AsyncClient], clock: Callable[[], datetime]
    ) -> None:
        self._url = f"{supabase_url}/auth/v1/.well-known/jwks.json"
        self._http_factory = http_factory
        self._clock = clock
        self._by_kid: Mapping[str, PublicKey] = {}
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._last_try_failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> PublicKey:
        """The key named `kid`. Raises Unauthenticated when there is no such key, Unavailable when nobody can say."""
        if self._fetched_at is None or self._are_stale(self._fetched_at) or kid not in self._by_kid:
            await self._refresh()
        key = self._by_kid.get(kid)
        if key is not None:
            return key
        if self._last_try_failed:
            raise Unavailable("The keys that access tokens are checked with cannot be fetched now")
        raise Unauthenticated("The access token is not valid: this project has no such key (kid)")

    def _are_stale(self, fetched_at: datetime) -> bool:
        return self._clock() - fetched_at >= KEYS_FRESH_FOR

    async def _refresh(self) -> None:
        """Fetch once for everyone who waits. Tokens with made-up key names cannot make us fetch more often."""
        if self._fetching is None:
            recently = self._tried_at is not None and self._clock() - self._tried_at < REFETCH_AFTER
            if recently and self._fetched_at is not None:
                return
            self._fetching = asyncio.create_task(self._fetch())
        # Shielded: one caller who leaves must not take the fetch away from the others.
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            now = self._clock()
            self._tried_at = now
            found = await self._download()
            self._last_try_failed = found is None
            if found is not None:
                self._by_kid = found
                self._fetched_at = now
        finally:
            self._fetching = None

    async def _download(self) -> Mapping[str, PublicKey] | None:
        """The keys as published, or None when they cannot be had."""
        import httpx

        body = bytearray()
        try:
            async with asyncio.timeout(KEYS_TIMEOUT_S):
                client = self._http_factory()
                async with client.stream("GET", self._url, timeout=KEYS_TIMEOUT_S) as response:
                    if response.status_code != 200:
                        return None
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > KEYS_MAX_BYTES:
                            return None
            return _public_keys(from_json(bytes(body)))
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, ValueError):
            return None


_SIGNATURE_ONLY: Final[Any] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _bearer_token(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or " " in token:
        raise Unauthenticated("The Authorization header is malformed: it must be 'Bearer' and an access token")
    return token


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _timestamp(claims: Mapping[str, Any], name: str) -> float | None:
    """Seconds since 1970, or None when the token does not say. A value of another type is malformed."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unauthenticated(f"The access token is malformed: {name} is not a time")
    return value


def _caller_of(claims: Mapping[str, Any], token: str) -> Caller:
    role = claims.get("role")
    if not isinstance(role, str) or not role:
        raise Unauthenticated("The access token is malformed: it names no role")
    if role in ("anon", "service_role"):
        kind: CallerKind = "anonymous" if role == "anon" else "service"
        return Caller(kind, claims=MappingProxyType(dict(claims)), token=SecretStr(token))
    if role != "authenticated":
        raise Forbidden("The role of this access token may not use this service")
    subject = claims.get("sub")
    if not isinstance(subject, str) or _UUID.fullmatch(subject) is None:
        raise Unauthenticated("The access token is malformed: its subject (sub) is not a user id")
    # Only app_metadata: user_metadata is written by the users themselves.
    app_metadata = claims.get("app_metadata")
    is_admin = isinstance(app_metadata, dict) and app_metadata.get("role") == "admin"
    return Caller(
        "admin" if is_admin else "user",
        user_id=subject.lower(),
        claims=MappingProxyType(dict(claims)),
        token=SecretStr(token),
    )


def _public_keys(document: Any) -> Mapping[str, PublicKey]:
    """The usable keys of a JWKS document: RSA and P-256 with a name. Anything else in it is passed over."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JWKS document")
    found: dict[str, PublicKey] = {}
    for entry in document["keys"]:
        if isinstance(entry, dict) and isinstance(entry.get("kid"), str):
            key = _public_key(entry)
            if key is not None:
                found[entry["kid"]] = key
    return found


def _public_key(entry: Mapping[str, Any]) -> PublicKey | None:
    import jwt
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm

    algorithm: Literal["RS256", "ES256"]
    if entry.get("kty") == "RSA":
        algorithm = "RS256"
    elif entry.get("kty") == "EC" and entry.get("crv") == "P-256":
        algorithm = "ES256"
    else:
        return None
    if entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        reader = RSAAlgorithm if algorithm == "RS256" else ECAlgorithm
        return PublicKey(algorithm, reader.from_jwk(dict(entry)))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
