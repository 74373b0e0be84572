"""Verbs at a Consul that does not let everybody in: what is said of tokens, and of a tree that shows nothing."""

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from gloo_nomad.cli.main import build_app
from gloo_nomad.clients.http import BAD_HEADER
from gloo_nomad.demo.consul import ConsulAgent

pytestmark = pytest.mark.consul
ROOT = "11111111-2222-3333-4444-555555555555"
ACL = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": ROOT}}


def run(agent: ConsulAgent, token: str, *arguments: str) -> Result:
    """Runs the command line with a token."""
    return CliRunner().invoke(build_app(), [*arguments, "--consul-address", agent.address, "--consul-token", token])


def test_tokens(new_consul: Callable[..., ConsulAgent]) -> None:
    """A token that is unknown, that may not, or that is none, is one line that names where another is given."""
    agent = new_consul(config={"acl": ACL})
    remedy = "give a token that may by --consul-token or CONSUL_HTTP_TOKEN"

    for verb in (("get", "vs"), ("get", "vs", "a"), ("delete", "vs", "a"), ("check", "--no-proxy")):
        unknown = run(agent, ROOT.replace("1", "9"), *verb)
        assert unknown.exit_code == 1
        assert "403 ACL not found" in str(unknown.exception)
        assert str(unknown.exception).endswith(remedy)
    anonymous = run(agent, "", "delete", "vs", "a")
    assert "403 Permission denied" in str(anonymous.exception)
    assert str(anonymous.exception).endswith(remedy)

    broken = run(agent, "canary\nb", "get", "vs")
    assert BAD_HEADER in str(broken.exception)
    assert "canary" not in str(broken.exception)

    assert run(agent, ROOT, "get", "vs").stdout == "no objects\n"


def test_empty_tree(consul: ConsulAgent) -> None:
    """A tree without objects is no good state: Consul shows an empty one also to those who may not read it."""
    result = run(consul, "", "check", "--no-proxy", "-o", "json", "--consul-root-key", "nobody-has-this")
    (finding,) = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["level"]) == (0, "warning")
    assert finding["message"].startswith(f"there is none below nobody-has-this/ in Consul at {consul.address}, or ")
