"""Who a token or key belongs to, and how the project's public keys are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import SecretStr

from shared.errors import ConfigError, Failure, Forbidden, Unauthenticated, Unavailable
from shared.identity import Identity
from shared.settings import Settings
from tests.edge.conftest import JWT_SECRET, NOW, SERVICE_KEY, SETTINGS, USER_ID, no_network, token

KEYS_URL = "https://project.example/auth/v1/.well-known/jwks.json"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def published(kid: str, key: Any, **extra: Any) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **extra}


def signed(key: Any, algorithm: str, kid: str | None = "one", **claims: Any) -> str:
    told = {"sub": USER_ID, "role": "authenticated", "exp": NOW.timestamp() + 86_400, **claims}
    return jwt.encode(told, key, algorithm=algorithm, headers={"kid": kid} if kid is not None else None)


class Project:
    """The Supabase project on the wire: publishes keys, counts who asks, and can be away."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = keys
        self.asked = 0
        self.away: Callable[[], httpx.Response] | None = None
        self.now = NOW
        self.identity = Identity(Settings(supabase_url="https://project.example"), self._client, self._clock)

    def _clock(self) -> datetime:
        return self.now

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == KEYS_URL
        self.asked += 1
        await asyncio.sleep(0)
        return self.away() if self.away is not None else httpx.Response(200, json={"keys": self.keys})


async def kind(project: Project, credential: str) -> str:
    return (await project.identity.identify(f"Bearer {credential}", None)).kind


@pytest.mark.parametrize(
    ("authorization", "apikey", "expected"),
    [
        (None, None, ("anonymous", None)),
        ("", "", ("anonymous", None)),
        (f"Bearer {token()}", None, ("user", USER_ID)),
        (f"bearer   {token()} ", None, ("user", USER_ID)),
        (f"Bearer {token(sub=USER_ID.upper())}", None, ("user", USER_ID)),
        (f"Bearer {token(app_metadata={'role': 'admin'})}", None, ("admin", USER_ID)),
        (f"Bearer {token(user_metadata={'role': 'admin'})}", None, ("user", USER_ID)),
        (f"Bearer {token(app_metadata='admin')}", None, ("user", USER_ID)),
        (f"Bearer {token(role='service_role', sub=None)}", None, ("service", None)),
        (f"Bearer {SERVICE_KEY}", None, ("service", None)),
        (None, SERVICE_KEY, ("service", None)),
        (None, token(role="service_role", sub=None), ("service", None)),
        (None, token(role="anon", sub=None), ("anonymous", None)),
        (None, "sb_publishable_x", ("anonymous", None)),
        (f"Bearer {token(role='anon', sub=None)}", token(role="anon", sub=None), ("anonymous", None)),
        (f"Bearer {token()}", token(role="anon", sub=None), ("user", USER_ID)),
        ("Bearer sb_publishable_x", SERVICE_KEY, ("anonymous", None)),
        (f"Bearer {token(exp=NOW.timestamp() - 9)}", None, ("user", USER_ID)),
        (f"Bearer {token(nbf=NOW.timestamp() + 9)}", None, ("user", USER_ID)),
    ],
)
async def test_a_credential_names_its_caller(
    authorization: str | None, apikey: str | None, expected: tuple[str, str | None]
) -> None:
    """Tokens, keys and their absence each make the caller that Supabase means by them."""
    identity = Identity(SETTINGS, no_network, lambda: NOW)

    caller = await identity.identify(authorization, apikey)

    assert (caller.kind, caller.user_id) == expected


@pytest.mark.parametrize(
    ("authorization", "apikey", "error", "reason"),
    [
        (None, token(), Unauthenticated, "belongs in the Authorization header"),
        (None, "sb_secret_of_someone", Unauthenticated, "malformed"),
        (f"Bearer {token(exp=NOW.timestamp() - 10)}", None, Unauthenticated, "expired"),
        (f"Bearer {token(exp=True)}", None, Unauthenticated, "exp is not a time"),
        (f"Bearer {token(exp='9999999999')}", None, Unauthenticated, "exp is not a time"),
        (f"Bearer {token(exp=float('inf'))}", None, Unauthenticated, "exp is not a time"),
        (f"Bearer {token(role='postgres')}", None, Forbidden, "role"),
        (f"Bearer {token(role=['service_role'])}", None, Unauthenticated, "no role"),
        (f"Bearer {token()[:-2]}AA", None, Unauthenticated, "signature is wrong"),
        ("Bearer ünïcode", None, Unauthenticated, "malformed"),
        ("Bearer a b", None, Unauthenticated, "malformed"),
    ],
)
async def test_a_wrong_credential_is_refused(
    authorization: str | None, apikey: str | None, error: type[Failure], reason: str
) -> None:
    """Each reason has its own words."""
    identity = Identity(SETTINGS, no_network, lambda: NOW)

    with pytest.raises(error, match=reason):
        await identity.identify(authorization, apikey)


async def test_a_token_is_asked_for_its_age_every_time() -> None:
    """A signature is remembered for a minute; an expiry is not overlooked meanwhile."""
    now = NOW
    identity = Identity(SETTINGS, no_network, lambda: now)
    credential = f"Bearer {token(exp=NOW.timestamp() + 5)}"

    first = await identity.identify(credential, None)
    assert await identity.identify(credential, None) is first
    now = NOW + timedelta(seconds=15)

    with pytest.raises(Unauthenticated, match="expired"):
        await identity.identify(credential, None)


def test_a_caller_does_not_show_its_token() -> None:
    """Callers end up in messages and tracebacks."""
    caller = asyncio.run(Identity(SETTINGS, no_network, lambda: NOW).identify(f"Bearer {token(email='a@b.c')}", None))

    assert token(email="a@b.c") not in repr(caller)
    assert "a@b.c" not in repr(caller)
    assert caller.token is not None
    assert caller.token.get_secret_value() == token(email="a@b.c")


async def test_without_any_key_tokens_cannot_be_checked() -> None:
    """Neither a secret nor a project: the configuration is to blame, not the caller."""
    identity = Identity(Settings(), no_network, lambda: NOW)

    with pytest.raises(ConfigError, match="SUPABASE_JWT_SECRET"):
        await identity.identify(f"Bearer {token()}", None)


async def test_both_kinds_of_public_key_are_understood() -> None:
    """RS256 and ES256 tokens are checked with the key they name, from one fetch."""
    project = Project(published("one", rsa_key(), alg="RS256", use="sig"), published("two", ec_key()))

    assert await kind(project, signed(rsa_key(), "RS256", "one")) == "user"
    assert await kind(project, signed(ec_key(), "ES256", "two")) == "user"
    assert project.asked == 1


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def hs256_with_public_key() -> str:
    """The classic confusion: the public key, which everyone has, used as an HMAC secret."""
    import base64
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    header = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    claims = part(json.dumps({"sub": USER_ID, "role": "service_role", "exp": NOW.timestamp() + 60}).encode())
    signature = hmac.new(public_pem(rsa_key()), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    return f"{header}.{claims}.{part(signature)}"


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        pytest.param(hs256_with_public_key, "wrong algorithm", id="public key as HMAC secret"),
        pytest.param(token, "wrong algorithm", id="HS256"),
        pytest.param(lambda: signed(rsa_key(), "RS512"), "wrong algorithm", id="RS512"),
        pytest.param(lambda: signed(ec_key(), "ES256"), "wrong algorithm for its key", id="another kind of key"),
        pytest.param(lambda: signed(rsa_key(), "RS256", None), "names no key", id="no key named"),
        pytest.param(lambda: signed(rsa_key(), "RS256", "other"), "no such key", id="unknown key"),
        pytest.param(lambda: signed(rsa_key(), "RS256", "symmetric"), "no such key", id="published secret"),
    ],
)
async def test_a_token_cannot_choose_how_it_is_checked(credential: Callable[[], str], reason: str) -> None:
    """Every key checks its own algorithm only, whatever the token's header says."""
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric", "alg": "HS256"}
    project = Project(published("one", rsa_key()), symmetric, {"kty": "RSA", "kid": "broken"})

    with pytest.raises(Unauthenticated, match=reason):
        await kind(project, credential())


async def test_with_a_secret_public_keys_are_not_asked() -> None:
    """The configuration decides: SUPABASE_JWT_SECRET means HS256 and no fetch."""
    settings = replace(SETTINGS, supabase_url="https://project.example")
    identity = Identity(settings, no_network, lambda: NOW)

    assert (await identity.identify(f"Bearer {token()}", None)).kind == "user"
    with pytest.raises(Unauthenticated, match="wrong algorithm"):
        await identity.identify(f"Bearer {signed(rsa_key(), 'RS256')}", None)


async def test_keys_are_fetched_once_for_everyone_who_waits() -> None:
    """Fifty first requests make one fetch, and one that gives up does not take it from the others."""
    project = Project(published("one", rsa_key()))
    tokens = [signed(rsa_key(), "RS256", n=n) for n in range(50)]

    tasks = [asyncio.create_task(kind(project, each)) for each in tokens]
    await asyncio.sleep(0)
    tasks[0].cancel()
    kinds = await asyncio.gather(*tasks, return_exceptions=True)

    assert kinds[1:] == ["user"] * 49
    assert project.asked == 1


async def test_keys_are_fresh_for_ten_minutes() -> None:
    """A withdrawn key stops working when the copy is ten minutes old."""
    project = Project(published("one", rsa_key()))
    await kind(project, signed(rsa_key(), "RS256", n=1))
    project.keys = ()

    project.now = NOW + timedelta(minutes=9)
    assert await kind(project, signed(rsa_key(), "RS256", n=2)) == "user"
    project.now = NOW + timedelta(minutes=10)
    with pytest.raises(Unauthenticated, match="no such key"):
        await kind(project, signed(rsa_key(), "RS256", n=3))

    assert project.asked == 2


async def test_made_up_keys_do_not_make_us_fetch() -> None:
    """An unknown key is looked up again at most every thirty seconds; then a new key is found."""
    project = Project(published("one", rsa_key()))
    await kind(project, signed(rsa_key(), "RS256"))
    for number in range(20):
        with pytest.raises(Unauthenticated, match="no such key"):
            await kind(project, signed(ec_key(), "ES256", f"made up {number}"))
    assert project.asked == 1

    project.keys = (published("new", ec_key()),)
    project.now = NOW + timedelta(seconds=30)

    assert await kind(project, signed(ec_key(), "ES256", "new")) == "user"
    assert project.asked == 2


def refused_connection() -> httpx.Response:
    raise httpx.ConnectError("refused")


AWAY = [
    pytest.param(refused_connection, id="unreachable"),
    pytest.param(lambda: httpx.Response(500), id="500"),
    pytest.param(lambda: httpx.Response(302, headers={"location": "https://evil.example"}), id="redirect"),
    pytest.param(lambda: httpx.Response(200, text="<html>"), id="no JSON"),
    pytest.param(lambda: httpx.Response(200, json=[]), id="no key set"),
    pytest.param(lambda: httpx.Response(200, content=b" " * 300_000), id="too large"),
]


@pytest.mark.parametrize("away", AWAY)
async def test_old_keys_serve_while_the_project_is_away(away: Callable[[], httpx.Response]) -> None:
    """Nobody is signed out because a key server has a bad hour; it is not asked at every request either."""
    project = Project(published("one", rsa_key()))
    await kind(project, signed(rsa_key(), "RS256"))
    project.away = away
    project.now = NOW + timedelta(hours=1)

    assert await kind(project, signed(rsa_key(), "RS256", n=2)) == "user"
    assert await kind(project, signed(rsa_key(), "RS256", n=3)) == "user"
    assert project.asked == 2
    with pytest.raises(Unavailable):
        await kind(project, signed(ec_key(), "ES256", "perhaps new"))


@pytest.mark.parametrize("away", AWAY)
async def test_without_keys_nobody_can_be_known(away: Callable[[], httpx.Response]) -> None:
    """That is no fault of the caller: Unavailable, and the next request tries again."""
    project = Project(published("one", rsa_key()))
    project.away = away
    with pytest.raises(Unavailable):
        await kind(project, signed(rsa_key(), "RS256"))

    project.away = None

    assert await kind(project, signed(rsa_key(), "RS256")) == "user"


async def test_a_service_key_in_jwt_form_needs_no_fetch() -> None:
    """The configured key is compared as it is, so a legacy key works in a project with public keys."""
    legacy = token(role="service_role", sub=None)
    settings = Settings(supabase_url="https://project.example", supabase_secret_key=SecretStr(legacy))
    identity = Identity(settings, no_network, lambda: NOW)

    assert (await identity.identify(f"Bearer {legacy}", None)).kind == "service"
    assert JWT_SECRET not in repr(settings)
