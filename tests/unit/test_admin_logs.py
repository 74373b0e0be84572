"""Logs: JSON, a level that changes at run time, and a last net for secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gloo_nomad.admin import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    yield
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_json() -> None:
    """An event is one line of JSON with time, level and name, also from the standard library."""
    out = io.StringIO()
    logs.configure("info", json=True, stream=out)
    structlog.get_logger("gloo_nomad.x").info("served", count=3)
    logging.getLogger("other").warning("plain %s", "text")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["event"], first["count"], first["level"], first["logger"]) == ("served", 3, "info", "gloo_nomad.x")
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"]) == ("plain text", "warning")


def test_level_changes_at_run_time() -> None:
    """A logger that was used before follows a change of the level."""
    out = io.StringIO()
    logs.configure("warn", json=True, stream=out)
    log = structlog.get_logger("gloo_nomad.y")
    log.info("hidden")
    logs.set_level("debug")
    log.debug("shown")
    assert logs.level() == "debug"
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["shown"]


def test_unknown_level() -> None:
    """A level that does not exist changes nothing and names those that do."""
    before = logs.level()
    with pytest.raises(ValueError) as failure:
        logs.set_level("loud")
    assert str(failure.value) == '"loud" is no level; known are debug, info, warn, warning, error'
    assert logs.level() == before


def test_secrets_do_not_reach_the_log() -> None:
    """A value under a telling name and a private key are redacted."""
    out = io.StringIO()
    logs.configure("info", json=True, stream=out)
    structlog.get_logger("z").info("login", token="canary", text="-----BEGIN PRIVATE KEY-----canary", host="vault")
    assert "canary" not in out.getvalue()
    assert json.loads(out.getvalue())["host"] == "vault"


def test_console() -> None:
    """For people a line is not JSON."""
    out = io.StringIO()
    logs.configure("info", json=False, stream=out)
    structlog.get_logger("z").info("hello", count=1)
    assert "hello" in out.getvalue()
    assert not out.getvalue().startswith("{")
