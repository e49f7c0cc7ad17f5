"""What the environment may say, and what is made of it when it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from shared.settings import Settings

FULL = {
    "OPENROUTER_API_KEY": "sk-or-v1-secret",
    "DATABASE_URL": "postgresql://user:pa ss@host/db",
    "SUPABASE_URL": "https://project.example/",
    "SUPABASE_SECRET_KEY": "sb_secret_x",
    "SUPABASE_JWT_SECRET": "a-secret-of-more-than-32-characters-x",
    "WEBHOOK_SECRET": "hook-secret",
    "CHAT_WORKER_URL": "http://localhost:9000",
    "CHAT_WORKER_TOKEN": "worker-secret",
    "ALLOWED_ORIGINS": "https://a.example, http://localhost:3000/",
    "REQUEST_TIMEOUT_S": "30",
    "LOG_LEVEL": "debug",
    "SPOOL_PATH": "/var/spool/x",
    "SPOOL_QUEUE_URL": "https://queue.example/1",
    "APP_TITLE": "My App",
    "APP_URL": "https://app.example",
    "OPENROUTER_BASE_URL": "http://localhost:9999/api/v1/",
    "OPENROUTER_WEBHOOK_URL": "https://hook.example/process-job",
}


def test_everything_can_be_set() -> None:
    """Each variable of the contract arrives in its field, and a full environment has no problems."""
    settings = Settings.from_environment(FULL)

    assert settings.problems() == ()
    assert settings.openrouter_api_key is not None
    assert settings.openrouter_api_key.get_secret_value() == "sk-or-v1-secret"
    assert settings.database_url is not None
    assert settings.supabase_url == "https://project.example"
    assert settings.allowed_origins == ("https://a.example", "http://localhost:3000")
    assert settings.request_timeout_s == 30.0
    assert settings.log_level == "DEBUG"
    assert settings.openrouter_base_url == "http://localhost:9999/api/v1"
    assert (settings.spool_path, settings.spool_queue_url) == ("/var/spool/x", "https://queue.example/1")
    assert (settings.app_title, settings.app_url) == ("My App", "https://app.example")
    assert settings.openrouter_webhook_url == "https://hook.example/process-job"
    assert settings.chat_worker_url == "http://localhost:9000"


@pytest.mark.parametrize("environ", [{}, dict.fromkeys(FULL, ""), dict.fromkeys(FULL, " \n")], ids=["not", "", "blank"])
def test_nothing_set_means_defaults_and_says_what_is_missing(environ: dict[str, str]) -> None:
    """An empty variable is a missing one; every missing necessity is one sentence with its name."""
    settings = Settings.from_environment(environ)

    assert settings == Settings()
    assert settings.openrouter_base_url == "https://openrouter.ai/api/v1"
    assert (settings.app_url, settings.app_title) == ("https://ourvidz.com", "OurVidz Platform")
    assert (settings.allowed_origins, settings.request_timeout_s, settings.log_level) == (("*",), 120.0, "INFO")
    assert settings.problems() == (
        "OPENROUTER_API_KEY is not set: OpenRouter cannot be asked.",
        "No database is configured: set DATABASE_URL, or both SUPABASE_URL and SUPABASE_SECRET_KEY.",
        "Neither SUPABASE_JWT_SECRET nor SUPABASE_URL is set: no access token can be checked.",
        "WEBHOOK_SECRET is not set: no webhook can be accepted.",
    )


@pytest.mark.parametrize(
    ("name", "value", "field", "default"),
    [
        *(("REQUEST_TIMEOUT_S", value, "request_timeout_s", 120.0) for value in ("0", "-1", "nan", "inf", "soon")),
        ("LOG_LEVEL", "LOUD", "log_level", "INFO"),
        ("OPENROUTER_BASE_URL", "openrouter.ai", "openrouter_base_url", "https://openrouter.ai/api/v1"),
        ("APP_URL", "ftp://x", "app_url", "https://ourvidz.com"),
        ("SUPABASE_URL", "https://", "supabase_url", None),
        ("SUPABASE_URL", "https://a b", "supabase_url", None),
        ("CHAT_WORKER_URL", "http://[", "chat_worker_url", None),
        ("CHAT_WORKER_URL", "http://x:99999", "chat_worker_url", None),
        ("OPENROUTER_WEBHOOK_URL", "javascript:x", "openrouter_webhook_url", None),
        ("SPOOL_QUEUE_URL", "/queue", "spool_queue_url", None),
        ("DATABASE_URL", "mysql://u:secret-part@h/d", "database_url", None),
        ("OPENROUTER_API_KEY", "secret-part\nX-Evil: 1", "openrouter_api_key", None),
        ("ALLOWED_ORIGINS", "app.example", "allowed_origins", ()),
        ("ALLOWED_ORIGINS", "https://a.example/path", "allowed_origins", ()),
    ],
)
def test_a_wrong_value_is_replaced_and_reported(name: str, value: str, field: str, default: Any) -> None:
    """The default is used, one sentence names the variable, and no sentence holds the value of a secret."""
    settings = Settings.from_environment({**FULL, name: value})

    assert getattr(settings, field) == default
    (problem,) = [problem for problem in settings.problems() if problem.startswith(f"{name} ")][:1]
    assert "secret-part" not in problem


def test_the_old_name_of_the_service_key_is_understood() -> None:
    """SUPABASE_SERVICE_ROLE_KEY is an alias; the new name wins."""
    old = Settings.from_environment({"SUPABASE_SERVICE_ROLE_KEY": "old"}).supabase_secret_key
    both = Settings.from_environment(
        {"SUPABASE_SERVICE_ROLE_KEY": "old", "SUPABASE_SECRET_KEY": "new"}
    ).supabase_secret_key

    assert old is not None and old.get_secret_value() == "old"
    assert both is not None and both.get_secret_value() == "new"


def test_nothing_secret_is_shown() -> None:
    """Neither the settings' own text nor their problems contain a secret."""
    settings = Settings.from_environment({**FULL, "ACME_API_KEY": "acme-secret", "SUPABASE_JWT_SECRET": "short-secret"})

    shown = f"{settings!r} {settings} {settings.problems()}"
    for secret in (*settings.secret_texts(), "acme-secret", "pa ss"):
        assert secret not in shown
    assert any(problem.startswith("SUPABASE_JWT_SECRET is shorter") for problem in settings.problems())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ACME_API_KEY", True),
        ("OPENROUTER_API_KEY", True),
        ("acme_api_key", False),
        ("AC", False),
        ("ACME-KEY", False),
        ("ACME_API_KEY\n", False),
        ("A" * 65, False),
        ("SUPABASE_SECRET_KEY", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("DATABASE_URL", False),
        ("WEBHOOK_SECRET", False),
        ("PGPASSWORD", False),
        ("NOT_SET", False),
    ],
)
def test_a_provider_row_reaches_only_keys_of_providers(name: str, found: bool) -> None:
    """An admin who edits a provider's secret_name cannot read the keys of the database or the cloud with it."""
    names = ("ACME_API_KEY", "acme_api_key", "AC", "ACME-KEY", "ACME_API_KEY\n", "A" * 65, "PGPASSWORD")
    environ = {**FULL, **dict.fromkeys(names, "value"), "AWS_SECRET_ACCESS_KEY": "value"}
    settings = Settings.from_environment(environ)

    assert (settings.secret(name) is not None) is found


def test_the_environment_is_read_once() -> None:
    """A later change of the environment changes nothing that was read."""
    environ = {"ACME_API_KEY": "first"}
    settings = Settings.from_environment(environ)
    environ["ACME_API_KEY"] = "second"

    secret = settings.secret("ACME_API_KEY")
    assert secret is not None and secret.get_secret_value() == "first"


def test_without_an_argument_this_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is the environment of the process."""
    monkeypatch.setenv("APP_TITLE", "From the process")

    assert Settings.from_environment().app_title == "From the process"
