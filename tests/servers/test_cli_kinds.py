"""The command line and every kind of object that Consul may hold."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.cli.main import build_app
from gloo_nomad.demo.consul import ConsulAgent

pytestmark = pytest.mark.consul

REF = Ref("gloo-system", "one")
DIRECT = {"matchers": [{"prefix": "/"}], "directResponseAction": {"status": 200}}
FIELDS: dict[str, dict[str, Any]] = {
    "Gateway": {"bindAddress": "127.0.0.1", "bindPort": 8080, "httpGateway": {}},
    "MatchableHttpGateway": {"matcher": {}, "httpGateway": {}},
    "MatchableTcpGateway": {"matcher": {}, "tcpGateway": {}},
    "Upstream": {"static": {"hosts": [{"addr": "127.0.0.1", "port": 80}]}},
    "UpstreamGroup": {
        "destinations": [{"weight": 1, "destination": {"upstream": {"name": "one", "namespace": "gloo-system"}}}]
    },
    "VirtualService": {"virtualHost": {"domains": ["a.test"], "routes": [DIRECT]}},
}
KEPT_ELSEWHERE = {"Secret", "Endpoint"}


def test_apply_every_kind(consul: ConsulAgent, root_key: str, tmp_path: Path) -> None:
    """An object of each kind that may be in Consul is written there from a folder, to its own key."""
    kinds = [kind for name, kind in KINDS.items() if name not in KEPT_ELSEWHERE]
    for kind in kinds:
        place = tmp_path / kind.plural / REF.namespace
        place.mkdir(parents=True)
        document = {"metadata": {"name": REF.name, "namespace": REF.namespace}, **FIELDS.get(kind.name, {})}
        (place / "one.yaml").write_text(yaml.safe_dump(document))
    environ = {"CONSUL_HTTP_ADDR": consul.address}
    result = CliRunner().invoke(build_app(), ["apply", str(tmp_path), "--consul-root-key", root_key], env=environ)
    assert result.exit_code == 0, result.output
    for kind in kinds:
        stored = yaml.safe_load(consul.get(kind.key(root_key, REF)) or b"")
        assert stored["metadata"]["name"] == "one", kind.name
