"""What this process was told by its environment, read once; the only reader of it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

Secret = SecretStr

OPENROUTER_BASE_URL: Final = "https://openrouter.ai/api/v1"
APP_URL: Final = "https://ourvidz.com"
APP_TITLE: Final = "OurVidz Platform"
REQUEST_TIMEOUT_S: Final = 120.0
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# A provider row names the variable that holds its key. Admins edit those rows, so the name may reach
# a provider's key only, never the keys of the database, the cloud account or our own webhooks.
_PROVIDER_SECRET = re.compile(r"(?!SUPABASE_|AWS_|DATABASE_|WEBHOOK_|PG)[A-Z][A-Z0-9_]{2,63}")


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default where one exists. None means not set; an empty variable counts as not set."""

    openrouter_api_key: Secret | None = None
    openrouter_base_url: str = OPENROUTER_BASE_URL
    openrouter_webhook_url: str | None = None
    app_url: str = APP_URL
    app_title: str = APP_TITLE
    database_url: Secret | None = None
    supabase_url: str | None = None
    supabase_secret_key: Secret | None = None
    supabase_jwt_secret: Secret | None = None
    webhook_secret: Secret | None = None
    chat_worker_url: str | None = None
    chat_worker_token: Secret | None = None
    allowed_origins: tuple[str, ...] = ("*",)
    request_timeout_s: float = REQUEST_TIMEOUT_S
    log_level: str = "INFO"
    spool_path: str | None = None
    spool_queue_url: str | None = None
    _wrong: tuple[str, ...] = field(default=(), repr=False)
    _environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read every setting from `environ`, by default from this process. Never raises: see `problems`."""
        reader = _Reader(os.environ if environ is None else environ)
        return cls(
            openrouter_api_key=reader.secret("OPENROUTER_API_KEY"),
            openrouter_base_url=reader.url("OPENROUTER_BASE_URL") or OPENROUTER_BASE_URL,
            openrouter_webhook_url=reader.url("OPENROUTER_WEBHOOK_URL"),
            app_url=reader.url("APP_URL") or APP_URL,
            app_title=reader.text("APP_TITLE") or APP_TITLE,
            database_url=reader.checked_secret("DATABASE_URL", _is_postgres_url, "a postgres:// URL"),
            supabase_url=reader.url("SUPABASE_URL"),
            supabase_secret_key=reader.secret("SUPABASE_SECRET_KEY") or reader.secret("SUPABASE_SERVICE_ROLE_KEY"),
            supabase_jwt_secret=reader.secret("SUPABASE_JWT_SECRET"),
            webhook_secret=reader.secret("WEBHOOK_SECRET"),
            chat_worker_url=reader.url("CHAT_WORKER_URL"),
            chat_worker_token=reader.secret("CHAT_WORKER_TOKEN"),
            allowed_origins=reader.origins("ALLOWED_ORIGINS"),
            request_timeout_s=reader.seconds("REQUEST_TIMEOUT_S", REQUEST_TIMEOUT_S),
            log_level=reader.log_level("LOG_LEVEL"),
            spool_path=reader.text("SPOOL_PATH"),
            spool_queue_url=reader.url("SPOOL_QUEUE_URL"),
            _wrong=tuple(reader.wrong),
            _environ=reader.provider_secrets(),
        )

    def problems(self) -> tuple[str, ...]:
        """One sentence per wrong or missing setting, naming the variable and what does not work; never a value."""
        missing: list[str] = []
        if self.openrouter_api_key is None:
            missing.append("OPENROUTER_API_KEY is not set: OpenRouter cannot be asked.")
        if self.database_url is None and (self.supabase_url is None or self.supabase_secret_key is None):
            missing.append("No database is configured: set DATABASE_URL, or both SUPABASE_URL and SUPABASE_SECRET_KEY.")
        if self.supabase_jwt_secret is None and self.supabase_url is None:
            missing.append("Neither SUPABASE_JWT_SECRET nor SUPABASE_URL is set: no access token can be checked.")
        if self.supabase_jwt_secret is not None and len(self.supabase_jwt_secret.get_secret_value()) < 32:
            missing.append("SUPABASE_JWT_SECRET is shorter than 32 characters: its tokens could be forged by guessing.")
        if self.webhook_secret is None:
            missing.append("WEBHOOK_SECRET is not set: no webhook can be accepted.")
        return (*self._wrong, *missing)

    def secret(self, name: str) -> Secret | None:
        """The key that a provider row names in `secret_name`; None when it is not set or the name is not allowed."""
        if _PROVIDER_SECRET.fullmatch(name) is None:
            return None
        value = self._environ.get(name)
        return None if value is None else SecretStr(value)

    def secret_texts(self) -> tuple[str, ...]:
        """The plain text of every secret setting, for the log to strike out. Never show it to anyone."""
        secrets = (
            self.openrouter_api_key,
            self.database_url,
            self.supabase_secret_key,
            self.supabase_jwt_secret,
            self.webhook_secret,
            self.chat_worker_token,
        )
        return tuple(secret.get_secret_value() for secret in secrets if secret is not None)


class _Reader:
    """Reads one environment and remembers what was wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Surrounding whitespace comes from copied keys and `echo key > file`; no setting means it.
        self._environ = {name: value.strip() for name, value in environ.items()}
        self.wrong: list[str] = []

    def text(self, name: str) -> str | None:
        return self._environ.get(name) or None

    def secret(self, name: str) -> Secret | None:
        return self.checked_secret(name, _fits_a_header, "plain printable text without spaces")

    def checked_secret(self, name: str, is_right: Callable[[str], bool], wanted: str) -> Secret | None:
        value = self.text(name)
        if value is None:
            return None
        if not is_right(value):
            self.wrong.append(f"{name} is not {wanted}: it is ignored.")
            return None
        return SecretStr(value)

    def url(self, name: str) -> str | None:
        """An http(s) URL without its trailing slash; None when it is not set or wrong."""
        value = self.text(name)
        if value is None:
            return None
        if not _is_http_url(value):
            self.wrong.append(f"{name} is not an http:// or https:// URL: it is ignored.")
            return None
        return value.rstrip("/")

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name)
        if value is None:
            return default
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if math.isfinite(seconds) and seconds > 0:
            return seconds
        self.wrong.append(f"{name} is not a positive number of seconds: {default:g} is used.")
        return default

    def log_level(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            return "INFO"
        if value.upper() in LOG_LEVELS:
            return value.upper()
        self.wrong.append(f"{name} is none of {', '.join(LOG_LEVELS)}: INFO is used.")
        return "INFO"

    def origins(self, name: str) -> tuple[str, ...]:
        """Origins that a browser may call from. A wrong one is dropped, never widened to every origin."""
        value = self.text(name)
        if value is None:
            return ("*",)
        given = [origin.strip().rstrip("/") for origin in value.split(",") if origin.strip()]
        right = tuple(origin for origin in given if origin == "*" or _is_origin(origin))
        if len(right) != len(given) or not given:
            self.wrong.append(f"{name} holds something that is no origin like https://app.example: it is ignored.")
        return ("*",) if "*" in right else right

    def provider_secrets(self) -> Mapping[str, str]:
        return MappingProxyType(
            {name: value for name, value in self._environ.items() if value and _PROVIDER_SECRET.fullmatch(name)}
        )


def _fits_a_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value


def _is_http_url(value: str) -> bool:
    return _scheme_with_host(value) in ("http", "https")


def _is_postgres_url(value: str) -> bool:
    # A password may hold characters that urlsplit refuses; the driver parses it, only the scheme is checked here.
    return value.startswith(("postgres://", "postgresql://"))


def _is_origin(value: str) -> bool:
    return _is_http_url(value) and value.count("/") == 2 and not any(mark in value for mark in "?#@")


def _scheme_with_host(value: str) -> str | None:
    if not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        # Reading the port is what checks it.
        return parts.scheme if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None
