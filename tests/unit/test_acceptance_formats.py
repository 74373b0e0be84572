"""Format strings of headers: what we let through Envoy loads, and what we refuse it would refuse."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.acceptance.commands import COMMANDS, HEADER_COMMANDS
from gloo_nomad.acceptance.formats import format_fault

EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
ACCEPTED = (
    "",
    "text",
    "50%%",
    "%%%REQ(a)%",
    "%REQ(:path?x-b):3%",
    "%REQ(?x-b)%",
    "%START_TIME(%Y/%m/%dT%H:%M:%S%z)%",
    "%DYNAMIC_METADATA(a:b:c):3%",
    '%UPSTREAM_METADATA(["a", "b"])%',
    "%METADATA(ROUTE:a:b):5%",
    "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:ms)%",
    "%FILTER_STATE(a:FIELD:b)%",
    "%FILTER_STATE(a:PLAIN):9%",
    "%GRPC_STATUS(NUMBER)%",
    "%PATH(NQ:ORIG)%",
    "%QUERY_PARAM(a):3%",
    "%REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)%",
    "%PROTOCOL()%",
)
REFUSED = (
    "100%",
    "%",
    "% %",
    "%req(a)%",
    "%%REQ(a)%",
    "%REQ%",
    "%REQ()%",
    "%REQ(a?b?c)%",
    "%REQ(a b)%",
    "%REQ(a)b)%",
    "%REQ(x-\u00e9)%",
    "%REQ(a):99999999999999999999%",
    "%NO_SUCH_THING%",
    "%PROTOCOL(a)%",
    "%PROTOCOL:3%",
    "%START_TIME:3%",
    "%METADATA(OTHER:a:b)%",
    "%COMMON_DURATION(a)%",
    "%COMMON_DURATION(a:b:minutes)%",
    "%FILTER_STATE(a:OTHER)%",
    "%FILTER_STATE(:PLAIN)%",
    "%FILTER_STATE%",
    "%GRPC_STATUS(OTHER)%",
    "%PATH(NQ:OTHER)%",
    "%ENVIRONMENT(A",
    "%CLUSTER_METADATA(a):3%",
)


def run_envoy(values: Sequence[str], binary: Path, folder: Path) -> str:
    """What Envoy says against a route that adds headers with these values; "" when it takes them."""
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "request_headers_to_add": [{"header": {"key": "x-a", "value": value}} for value in values],
    }
    manager: dict[str, Any] = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    path = folder / "bootstrap.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener]}}), encoding="utf-8")
    command = [str(binary), "--mode", "validate", "-l", "critical", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr or "refused"


@pytest.mark.envoy
def test_what_is_let_through_is_loaded(envoy_binary: Path, tmp_path: Path) -> None:
    """Envoy loads every string that we let through, and every command in a form that we allow."""
    forms = [
        f"%{name}(a)%" if command.argument_required and not command.form else f"%{name}%"
        for name, command in COMMANDS.items()
        if not (command.argument_required and command.form)
    ]

    assert [text for text in (*ACCEPTED, *forms) if format_fault(text)] == []
    assert run_envoy([*ACCEPTED, *forms], envoy_binary, tmp_path) == ""


@pytest.mark.envoy
@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_would_be_refused(text: str, envoy_binary: Path, tmp_path: Path) -> None:
    """Envoy loads no string that we refuse."""
    assert format_fault(text)
    assert run_envoy([text], envoy_binary, tmp_path)


def test_refusals_say_what_helps() -> None:
    """A percent sign alone is told to be written twice, an unknown command is named; nothing is quoted at length."""
    assert len(format_fault("%" + "A" * 10_000 + "%")) < 200
    assert "write %% for a percent sign" in format_fault("100%")
    assert "NO_SUCH_THING" in format_fault("%NO_SUCH_THING%")


def test_header_commands_are_commands() -> None:
    """The commands whose argument is a header are among the known ones."""
    assert set(COMMANDS) >= HEADER_COMMANDS


def test_long_text_is_quick() -> None:
    """A long string of beginnings of commands takes no longer than it has characters."""
    assert format_fault("%A(" * 50_000)


@pytest.mark.parametrize("text", ["%REQ_WITHOUT_QUERY(:path)%", "%REQ_WITHOUT_QUERY(x-a?:path):20%"])
def test_some_commands_are_for_access_logs(text: str) -> None:
    """A command that needs a formatter works in access logs, where there is one, and nowhere else."""
    assert format_fault(text, log=True) == ""
    assert "REQ_WITHOUT_QUERY" in format_fault(text)


@pytest.mark.parametrize("text", ["%REQ_WITHOUT_QUERY%", "%REQ_WITHOUT_QUERY(a b)%", "%REQ_WITHOUT_QUERY(a?b?c)%"])
def test_commands_of_access_logs_are_checked(text: str) -> None:
    """Their argument is the name of a header, as for other commands."""
    assert format_fault(text, log=True)
