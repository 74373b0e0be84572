"""The example objects, the certificates and the command line of the demos."""

import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gloo_nomad.api import codec
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo import seed
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.processes import ServerError
from gloo_nomad.demo.stage import read_ports

CHECKOUT = Path(__file__).parent.parent.parent
EXAMPLES = list(seed.read_seed(CHECKOUT / "consul-kv-seed"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.key)
def test_every_example_is_an_object(example: seed.SeedObject) -> None:
    """Each file of the seed is accepted under its key, as it stands and with other ports."""
    for variant in (example, seed.with_ports(example, http=18080, https=18443)):
        decoded = codec.decode(variant.kind, variant.text.encode(), Ref(variant.namespace, variant.name))

        assert decoded.rejection is None
        assert variant.kind.key("gloo", decoded.ref.ref) == example.key


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.key)
def test_every_example_explains_itself(example: seed.SeedObject) -> None:
    """Each file of the seed begins with a comment for a newcomer."""
    assert example.text.startswith("# ")


def test_the_seed_has_the_objects_of_a_first_gateway() -> None:
    """The seed holds two gateways, virtual services for both, a route table, upstreams, and the Settings."""
    assert {(example.kind.name, example.name) for example in EXAMPLES} >= {
        ("Gateway", "gateway-proxy"),
        ("Gateway", "gateway-proxy-ssl"),
        ("VirtualService", "default"),
        ("VirtualService", "default-https"),
        ("RouteTable", "echo"),
        ("Upstream", "echo"),
        ("Settings", "default"),
    }


def test_other_ports_and_addresses() -> None:
    """The gateways get the ports that are asked for."""
    changed = [seed.with_ports(example, http=1, https=2, address="127.0.0.1") for example in EXAMPLES]
    gateways = [yaml.safe_load(example.text) for example in changed if example.kind.name == "Gateway"]

    assert sorted((gateway["bindAddress"], gateway["bindPort"]) for gateway in gateways) == [
        ("127.0.0.1", 1),
        ("127.0.0.1", 2),
    ]


def test_the_directory_layout(tmp_path: Path) -> None:
    """As a directory source the seed has no Settings, and its upstreams have fixed addresses."""
    seed.write_directory(tmp_path, iter(EXAMPLES), echo_port=9)

    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yaml")}
    assert "virtualservices/gloo-system/default.yaml" in files
    assert not any("settings" in name for name in files)
    upstream = yaml.safe_load((tmp_path / "upstreams/gloo-system/echo.yaml").read_text())
    assert upstream["static"]["hosts"] == [{"addr": "127.0.0.1", "port": 9}]


def test_the_key_layout(tmp_path: Path) -> None:
    """As keys the seed is the same tree again."""
    seed.write_keys(tmp_path, iter(EXAMPLES))

    assert list(seed.read_seed(tmp_path)) == EXAMPLES


def test_no_seed_is_an_error(tmp_path: Path) -> None:
    """A folder without objects is an error that says where to run the demo."""
    with pytest.raises(ServerError, match="run this in the checkout"):
        list(seed.read_seed(tmp_path))


def test_issued_certificates_are_trusted(tmp_path: Path) -> None:
    """A certificate is accepted for its names by who trusts the authority, and its key belongs to it."""
    authority = Authority()
    pair = authority.issue("localhost", "127.0.0.1")
    (tmp_path / "pair.pem").write_text(pair.certificates + pair.private_key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "pair.pem")
    client = ssl.create_default_context(cadata=authority.certificate)

    assert _handshake(client, server, "localhost") == pair.der
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(client, server, "example.com")
    assert authority.issue("localhost").der != pair.der


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bytes | None:
    """The certificate that the client sees, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (one, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one.getpeercert(binary_form=True)


def test_ports_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    """Ports and the running time of a demo can be chosen."""
    chosen = [free_port() for _ in range(3)]
    for name, value in zip(("HTTP_PORT", "HTTPS_PORT", "ENVOY_ADMIN_PORT"), chosen, strict=True):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DEMO_SECONDS", "20")

    ports = read_ports()

    assert [ports.http, ports.https, ports.envoy_admin, ports.seconds] == [*chosen, 20]


@pytest.mark.parametrize("module", ["folder", "cluster"])
def test_a_port_in_use_ends_the_demo_with_one_line(module: str, run_echo: Callable[..., int]) -> None:
    """A demo whose port is taken prints one line with the remedy, and its exit code is 1."""
    port = run_echo()
    done = subprocess.run(
        [sys.executable, "-m", "gloo_nomad.demo", module],
        env={"HTTP_PORT": str(port), "PATH": "/usr/bin:/bin"},
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"demo: port {port} (HTTP) is in use: end what uses it, or choose another: make demo HTTP_PORT=18080\n"
    )


def test_a_missing_program_ends_the_demo_with_one_line(tmp_path: Path) -> None:
    """A demo without Envoy prints one line with the remedy, and its exit code is 1."""
    done = subprocess.run(
        [sys.executable, "-m", "gloo_nomad.demo", "folder"],
        env={"ENVOY": str(tmp_path / "gone")},
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"demo: ENVOY says {tmp_path / 'gone'}, which is not a program: run `make setup`")
    assert done.stderr.count("\n") == 1
