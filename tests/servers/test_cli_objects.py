"""get, apply, delete and check on a real Consul and on folders."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.admin.server import build_app as build_admin
from gloo_nomad.admin.view import AdminView, Client, SourceState
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.cli.daemons import check_daemons, find_daemons
from gloo_nomad.cli.main import build_app
from gloo_nomad.cli.place import Place
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.serving import serving

pytestmark = pytest.mark.consul
SEED = Path(__file__).parents[2] / "consul-kv-seed"
VIRTUAL_SERVICES = "gateway.solo.io/v1/VirtualService/gloo-system"
Run = Callable[..., Result]


def virtual_service(name: str = "a", domain: str = "a.example.com", **more: Any) -> str:
    """A virtual service that answers by itself."""
    route = {"matchers": [{"prefix": "/"}], "directResponseAction": {"status": 200}}
    document = {
        "metadata": {"namespace": "gloo-system", "name": name},
        "virtualHost": {"domains": [domain], "routes": [route]},
    }
    return yaml.safe_dump({**document, **more})


def status(state: str, reason: str = "") -> dict[str, Any]:
    """A status as the daemon writes it."""
    return {"statuses": {"gloo-system": {"state": state, "reportedBy": "gloo", "reason": reason}}}


@pytest.fixture
def run(consul: ConsulAgent, root_key: str) -> Run:
    """Runs the command line in this process on the test's keys, 80 columns wide."""

    def invoke(*arguments: str, **environ: str) -> Result:
        known = {"CONSUL_HTTP_ADDR": consul.address, "COLUMNS": "80", **environ}
        return CliRunner().invoke(build_app(), [*arguments, "--consul-root-key", root_key], env=known)

    return invoke


def test_apply_the_seed(run: Run, consul: ConsulAgent, root_key: str) -> None:
    """The seed goes into Consul under its own keys, once; a second time nothing changes."""
    result = run("apply", str(SEED))
    assert result.exit_code == 0, result.output
    for path in SEED.rglob("*.yaml"):
        key = path.relative_to(SEED / "gloo").with_suffix("")
        assert consul.get(f"{root_key}/{key}") is not None
    again = run("apply", str(SEED), "-o", "json")
    assert {written["result"] for written in json.loads(again.stdout)["objects"]} == {"unchanged"}


def test_order_of_writes(run: Run) -> None:
    """What others refer to is written before them."""
    kinds = [written["kind"] for written in json.loads(run("apply", str(SEED), "-o", "json").stdout)["objects"]]
    assert kinds.index("Upstream") < kinds.index("RouteTable") < kinds.index("VirtualService") < kinds.index("Gateway")


def test_apply_keeps_statuses(run: Run, consul: ConsulAgent, root_key: str, tmp_path: Path) -> None:
    """A changed object keeps the status of the stored one."""
    key = f"{root_key}/{VIRTUAL_SERVICES}/a"
    consul.put(key, virtual_service(namespacedStatuses=status("Warning", "because")))
    (tmp_path / "a.yaml").write_text(virtual_service(domain="b.example.com"))
    result = run("apply", str(tmp_path))
    assert result.exit_code == 0
    assert "updated" in result.stdout
    stored = yaml.safe_load(consul.get(key) or b"")
    assert stored["virtualHost"]["domains"] == ["b.example.com"]
    assert stored["namespacedStatuses"] == status("Warning", "because")


def test_dry_run(run: Run, consul: ConsulAgent, root_key: str, tmp_path: Path) -> None:
    """A dry run says what would be written, and writes nothing."""
    (tmp_path / "a.yaml").write_text(virtual_service())
    result = run("apply", str(tmp_path), "--dry-run")
    assert result.exit_code == 0
    assert "VirtualService gloo-system.a  would be created" in result.stdout
    assert consul.get(f"{root_key}/{VIRTUAL_SERVICES}/a") is None


def test_apply_is_validated_with_what_is_stored(run: Run, consul: ConsulAgent, root_key: str, tmp_path: Path) -> None:
    """A domain that a stored object has already is an error, and nothing at all is written; --force writes."""
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/other", virtual_service("other"))
    (tmp_path / "a.yaml").write_text(virtual_service())
    (tmp_path / "good.yaml").write_text(virtual_service("good", "good.example.com"))
    result = run("apply", str(tmp_path))
    assert result.exit_code == 1
    assert str(result.exception).startswith("nothing was written because of ")
    assert "a.example.com" in result.stdout
    assert consul.get(f"{root_key}/{VIRTUAL_SERVICES}/good") is None
    assert run("apply", str(tmp_path), "--force").exit_code == 0
    assert consul.get(f"{root_key}/{VIRTUAL_SERVICES}/a") is not None


def test_apply_secret(run: Run, tmp_path: Path) -> None:
    """A Secret is not for Consul, and the message says where it goes."""
    secret = {"metadata": {"namespace": "gloo-system", "name": "s"}, "tls": {"certChain": "canary"}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(secret))
    result = run("apply", str(tmp_path), "-o", "json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert "vault kv put secret/gloo/gloo.solo.io/v1/Secret/gloo-system/s" in problem["message"]
    assert "canary" not in result.output


@pytest.mark.parametrize("text", ["a: [", "", "metadata: {name: a}\nvirtualHost: {}"])
def test_apply_no_object(run: Run, tmp_path: Path, text: str) -> None:
    """What is no object stops the whole apply."""
    (tmp_path / "a.yaml").write_text(text)
    result = run("apply", str(tmp_path))
    assert result.exit_code == 1
    assert str(result.exception) == "nothing was written because of 1 error; --force writes the rest"


def test_table_of_objects(run: Run, consul: ConsulAgent, root_key: str) -> None:
    """Objects are listed with what matters of their kind and their status, also those that are none."""
    objects = {
        "a": virtual_service("a", namespacedStatuses=status("Accepted")),
        "b": virtual_service("b", "b.example.com", namespacedStatuses=status("Rejected", "1 error occurred:\n\t* bad")),
        "c": virtual_service("c", "c.example.com"),
        "d": "virtualHost: [",
    }
    for name, text in objects.items():
        consul.put(f"{root_key}/{VIRTUAL_SERVICES}/{name}", text)
    result = run("get", "vs")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:5] == [
        "NAMESPACE NAME DOMAINS STATUS",
        "gloo-system a a.example.com Accepted",
        "gloo-system b b.example.com Rejected",
        "1 error occurred:",
        "* bad",
    ]
    assert "gloo-system c c.example.com Pending" in lines
    assert "gloo-system d Invalid" in lines
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_get_one(run: Run, consul: ConsulAgent, root_key: str) -> None:
    """One object is printed as it is stored, with its version; one that is missing is an error."""
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/a", virtual_service())
    read = yaml.safe_load(run("get", "virtualservice", "a", "-o", "yaml").stdout)
    assert read["virtualHost"]["domains"] == ["a.example.com"]
    assert int(read["metadata"]["resourceVersion"]) > 0
    assert json.loads(run("get", "vs", "-o", "json").stdout) == [read]
    missing = run("get", "vs", "b", "-n", "elsewhere")
    assert missing.exit_code == 1
    assert str(missing.exception) == f"there is no VirtualService elsewhere.b in Consul at {consul.address}"


def test_get_garbage_as_yaml(run: Run, consul: ConsulAgent, root_key: str) -> None:
    """A stored value that is no object is told on standard error; the others are printed."""
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/a", virtual_service())
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/b", "virtualHost: [")
    result = run("get", "vs", "-o", "json")
    assert result.exit_code == 1
    assert [found["metadata"]["name"] for found in json.loads(result.stdout)] == ["a"]
    assert result.stderr.startswith("VirtualService gloo-system.b: ")


def test_get_all(run: Run) -> None:
    """All kinds in one table."""
    run("apply", str(SEED))
    result = run("get", "all", "-n", "gloo-system")
    assert result.stdout.splitlines()[0].split() == ["KIND", "NAMESPACE", "NAME", "DETAILS", "STATUS"]
    kinds = {line.split()[0] for line in result.stdout.splitlines()[1:]}
    assert kinds >= {"Gateway", "VirtualService", "Upstream"}
    assert run("get", "all", "-n", "nowhere").stdout == "no objects\n"


def test_delete(run: Run, consul: ConsulAgent, root_key: str) -> None:
    """An object is deleted once; a second time is an error, unless that is said to be fine."""
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/a", virtual_service())
    assert run("delete", "vs", "a").stdout == "VirtualService gloo-system.a deleted\n"
    assert consul.get(f"{root_key}/{VIRTUAL_SERVICES}/a") is None
    again = run("delete", "vs", "a")
    assert (again.exit_code, str(again.exception)) == (
        1,
        f"there is no VirtualService gloo-system.a in Consul at {consul.address}",
    )
    assert run("delete", "vs", "a", "--ignore-missing").exit_code == 0


def test_consul_is_gone(run: Run, free_port: Callable[[], int]) -> None:
    """A Consul that does not answer is one clear line that names the option."""
    for verb in (("get", "vs"), ("delete", "vs", "a"), ("apply", str(SEED)), ("check", "--no-proxy")):
        result = run(*verb, CONSUL_HTTP_ADDR=f"127.0.0.1:{free_port()}")
        assert result.exit_code == 1
        assert str(result.exception).startswith("Consul at ")
        assert str(result.exception).endswith("said by --consul-address or CONSUL_HTTP_ADDR")


@pytest.mark.parametrize(("kind", "where"), [("secret", "in Vault"), ("endpoint", "service discovery finds it")])
def test_kinds_that_are_not_stored(run: Run, kind: str, where: str) -> None:
    """A kind that is kept elsewhere is not an empty list."""
    result = run("get", kind)
    assert result.exit_code == 1
    assert where in str(result.exception)


def test_bad_address(run: Run) -> None:
    """An address that is none is one clear line."""
    result = run("get", "vs", "--consul-address", "ftp://x")
    assert result.exit_code == 1
    assert "expected host:port" in str(result.exception)


def test_folder(tmp_path: Path) -> None:
    """The same verbs work on a folder, in the plural layout and in the tree of keys."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(build_app(), [*arguments, "--config-dir", str(tmp_path)], env={"COLUMNS": "80"})

    assert invoke("apply", str(SEED)).exit_code == 0
    assert (tmp_path / "virtualservices/gloo-system/default.yaml").is_file()
    assert (tmp_path / "gloo-system/default.yaml").is_file()  # the Settings
    assert "default" in invoke("get", "vs").stdout
    assert invoke("delete", "vs", "default").exit_code == 0
    assert not (tmp_path / "virtualservices/gloo-system/default.yaml").exists()
    tree = CliRunner().invoke(build_app(), ["get", "us", "echo", "-o", "json", "--config-dir", str(SEED)])
    assert json.loads(tree.stdout)["metadata"]["name"] == "echo"


def test_folder_with_several_objects_in_a_file(tmp_path: Path) -> None:
    """A file with several objects is read, and not overwritten by one of them."""
    path = tmp_path / "virtualservices/gloo-system/all.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(virtual_service("a") + "---\n" + virtual_service("b", "b.example.com"))
    new = tmp_path / "new.yaml"
    new.write_text(virtual_service("b", "c.example.com"))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(build_app(), [*arguments, "--config-dir", str(tmp_path)])

    assert "b.example.com" in invoke("get", "vs").stdout
    result = invoke("apply", str(new))
    assert result.exit_code == 1
    assert "holds several objects; edit that file, or give each object its own" in result.stdout
    assert "c.example.com" not in path.read_text()


@pytest.mark.parametrize(
    ("stored", "code", "level", "found"),
    [
        (virtual_service(namespacedStatuses=status("Accepted")), 0, "ok", "1 looked at, none has problems"),
        (virtual_service(namespacedStatuses=status("Warning", "w")), 0, "warning", "Warning: w"),
        (virtual_service(namespacedStatuses=status("Rejected", "r")), 1, "error", "Rejected: r"),
        (virtual_service(namespacedStatuses={"statuses": {"x": {"state": 2}}}), 1, "error", "Rejected"),
        (virtual_service(), 0, "warning", "1 of 1 have no status yet"),
        ("virtualHost: [", 1, "error", "Invalid: "),
    ],
)
def test_check_objects(  # noqa: PLR0917  # a table
    run: Run, consul: ConsulAgent, root_key: str, stored: str, code: int, level: str, found: str
) -> None:
    """Rejected and unreadable objects are errors; warnings and missing statuses are not, unless strict."""
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/a", stored)
    result = run("check", "--no-proxy", "-o", "json")
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["level"] == level
    assert found in finding["message"]
    assert result.exit_code == code
    assert run("check", "--no-proxy", "--strict").exit_code == (0 if level == "ok" else 1)


@contextlib.asynccontextmanager
async def admin(view: AdminView) -> AsyncIterator[str]:
    """Admin pages with that view; their address."""
    async with serving(build_admin(view, Metrics(view)), "127.0.0.1", 0, "admin pages") as port:
        yield f"127.0.0.1:{port}"


def test_check_daemon() -> None:
    """What the daemon says: sources, readiness, Envoys and what they reject."""
    envoy = Client("envoy-1", "gloo-system~gateway-proxy", "127.0.0.1:5", "delta", 1.0)
    rejecting = Client("envoy-2", "gloo-system~gateway-proxy", "127.0.0.1:6", "delta", 1.0, (), 1, "no such filter")

    async def scenario() -> None:
        async with admin(AdminView(sources=lambda: [SourceState("kv", listed=True)], clients=lambda: [envoy])) as good:
            assert [(found.level, found.message) for found in await check_daemons([good])] == [
                ("ok", "listed"),
                ("ok", "1 connected, none rejects anything"),
            ]
        failing = AdminView(
            sources=lambda: [SourceState("kv", listed=False, error="refused")],
            published=lambda: False,
            clients=lambda: [envoy, rejecting],
        )
        async with admin(failing) as bad:
            assert [(found.level, found.message) for found in await check_daemons([bad])] == [
                ("error", "refused"),
                ("error", "not ready: waits for kv, first configuration"),
                ("error", "rejected: no such filter"),
            ]
        async with admin(AdminView()) as lonely:
            assert [found.level for found in await check_daemons([lonely])] == ["warning"]

    asyncio.run(scenario())


def test_check_daemon_of_a_folder(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Nobody writes statuses into a folder: there is no such column, and the daemon says what is wrong."""
    (tmp_path / "virtualservices/gloo-system").mkdir(parents=True)
    (tmp_path / "virtualservices/gloo-system/a.yaml").write_text(virtual_service())

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(build_app(), [*arguments, "--config-dir", str(tmp_path)])

    assert "STATUS" not in invoke("get", "vs").stdout
    stored = invoke("check", "--no-proxy", "-o", "json")
    assert json.loads(stored.stdout)["findings"] == [
        {"level": "ok", "subject": "objects", "message": "1 looked at, all are readable"}
    ]
    ref = KINDS["VirtualService"].object_ref(Ref("gloo-system", "a"))
    problems = (Problem(Severity.ERROR, ref, "virtualHost", "is wrong"), Problem(Severity.WARNING, ref, "", "is odd"))

    async def scenario() -> None:
        async with admin(AdminView(problems=lambda: problems)) as address:
            found = await check_daemons([address], problems=True)
            assert [(one.level, one.subject, one.message) for one in found[:2]] == [
                ("error", "VirtualService\ngloo-system.a", "virtualHost: is wrong"),
                ("warning", "VirtualService\ngloo-system.a", "is odd"),
            ]
        many = tuple(Problem(Severity.ERROR, ref, "virtualHost", f"is wrong: {i:0200}") for i in range(5_000))
        async with admin(AdminView(problems=lambda: many)) as address:
            told = [one.message for one in await check_daemons([address], problems=True)]
            assert "and 4800 more problems; see /problems" in told
            both = await check_daemons([address, f"127.0.0.1:{free_port()}"])
            assert [one.subject.partition("\n")[0] for one in both] == ["daemon", "Envoys"]

    asyncio.run(scenario())


def test_find_daemons(consul: ConsulAgent, root_key: str) -> None:
    """Where admin pages are is metadata of gloo-xds in Consul; without it they are where they are by default."""
    place = Place(consul.address, "", root_key, None)
    assert asyncio.run(find_daemons(place)) == ("127.0.0.1:9091",)
    instance = consul.register("gloo-xds", 9977, Meta={"admin_port": "12345"}, Address="127.0.0.9")
    try:
        assert asyncio.run(find_daemons(place)) == ("127.0.0.9:12345",)
    finally:
        consul.deregister(instance)


@pytest.mark.envoy
@pytest.mark.parametrize("output", ["yaml", "json"])
def test_bootstrap(output: str, tmp_path: Path, envoy_binary: Path) -> None:
    """A real Envoy accepts the bootstrap, for an xDS server by address and by name."""
    for number, xds in enumerate(("127.0.0.1:9977", "gloo-xds.service.consul:9977", "[::1]:9977")):
        printed = CliRunner().invoke(build_app(), ["bootstrap", "--xds", xds, "-o", output]).stdout
        file = tmp_path / f"{number}.{output}"
        file.write_text(printed)
        line: list[str | Path] = [envoy_binary, "--mode", "validate", "-c", file]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert yaml.safe_load(printed)["node"]["metadata"]["role"] == "gloo-system~gateway-proxy"


def test_check_without_daemon(run: Run, free_port: Callable[[], int]) -> None:
    """Admin pages that do not answer are an error that names the options."""
    result = run("check", "--admin-address", f"127.0.0.1:{free_port()}", "-o", "json")
    assert result.exit_code == 1
    message = json.loads(result.stdout)["findings"][-1]["message"]
    assert message.endswith("give its address by --admin-address, or leave it out by --no-proxy")


def test_names_in_a_pipe(consul: ConsulAgent, root_key: str) -> None:
    """In a pipe every object is one line, whatever its reason."""
    consul.put(f"{root_key}/{VIRTUAL_SERVICES}/a", virtual_service(namespacedStatuses=status("Rejected", "one\n\ttwo")))
    line = [sys.executable, "-m", "gloo_nomad", "get", "vs", "--consul-root-key", root_key]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=consul.environment)
    assert done.stdout.splitlines()[1].split() == ["gloo-system", "a", "a.example.com", "Rejected", "one", "two"]
    assert len(done.stdout.splitlines()) == 2
