"""The main job as on a cluster: Nomad runs it, Consul KV holds its objects, OpenBao its certificates."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gloo_nomad.api.kinds import UPSTREAM, VIRTUAL_SERVICE, Kind
from gloo_nomad.demo import seed
from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.cluster import JOBS, Cluster, echo_variables, run_main_job
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, wait_until
from gloo_nomad.demo.stage import Ports
from tests.e2e.core import CoreScenarios
from tests.e2e.scene import FOLLOW_SECONDS, NAMESPACE, Scene, Tally, direct, to_consul, to_upstream

pytestmark = [pytest.mark.consul, pytest.mark.nomad, pytest.mark.bao, pytest.mark.envoy]

START_SECONDS = 120.0


@dataclass(frozen=True)
class ConsulKv:
    """Objects as keys, written by ``consul kv put KEY @FILE``."""

    consul: ConsulAgent
    openbao: OpenBao
    folder: Path

    def put(self, kind: Kind, name: str, text: str) -> None:
        """Writes the object's key from a file."""
        file = self.folder / "value.yaml"
        file.write_text(text)
        self.consul.command("kv", "put", self.key(kind, name), f"@{file}")

    def delete(self, kind: Kind, name: str) -> None:
        """Deletes the object's key."""
        self.consul.command("kv", "delete", self.key(kind, name))

    def put_certificate(self, name: str, pair: KeyPair) -> None:
        """Stores a TLS Secret in OpenBao."""
        self.openbao.put_secret(NAMESPACE, name, pair.build_secret())

    def text(self, kind: Kind, name: str) -> str:
        """The object's value, empty if there is none."""
        return (self.consul.get(self.key(kind, name)) or b"").decode()

    @staticmethod
    def key(kind: Kind, name: str) -> str:
        """The key of an object of gloo-system."""
        return f"gloo/{kind.prefix}{NAMESPACE}/{name}"


@pytest.fixture(scope="module")
def cluster(consul: ConsulAgent, nomad: NomadAgent, openbao: OpenBao) -> Cluster:
    """The agents."""
    return Cluster(consul, nomad, openbao)


@pytest.fixture(scope="module")
def scene(
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    envoy_binary: Path,
    monkeypatch_module: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    """The main job and the echo job, run by Nomad; the seed written key by key with Consul's own command."""
    monkeypatch_module.setenv("ENVOY", str(envoy_binary))
    home = tmp_path_factory.mktemp("main-job")
    ports = Ports(http=free_port(), https=free_port(), envoy_admin=free_port(), seconds=0)
    authority = Authority()
    roots = home / "authority.pem"
    roots.write_text(authority.certificate)
    cluster.openbao.put_secret(*seed.CERTIFICATE, authority.issue("localhost").build_secret())
    examples = (
        seed.with_ports(example, http=ports.http, https=ports.https, address="127.0.0.1")
        for example in seed.read_seed()
    )
    seed.write_keys(home / "keys", examples)
    for file in sorted((home / "keys").rglob("*.yaml")):
        key = file.relative_to(home / "keys").with_suffix("").as_posix()
        cluster.consul.command("kv", "put", key, f"@{file}")
    run_main_job(cluster, ports, drain_seconds="2")
    cluster.nomad.command("job", "run", "-detach", *echo_variables(), str(JOBS / "echo.nomad.hcl"))
    source = ConsulKv(cluster.consul, cluster.openbao, home)
    scene = Scene(source, ports.http, ports.https, authority, roots, lambda: _daemons(cluster.nomad))
    try:
        _wait_for_answers(cluster, scene)
        yield scene
    finally:
        for job in ("gloo", "echo"):
            cluster.nomad.command("job", "stop", "-purge", "-detach", job)
        wait_until(lambda: cluster.consul.passing("gateway-proxy") == [], "the end of the job", 60.0)
        cluster.consul.delete("gloo/", recurse=True)
        cluster.openbao.delete_secret(*seed.CERTIFICATE)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """Changes of the environment that last as long as the job."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def _wait_for_answers(cluster: Cluster, scene: Scene) -> None:
    try:
        for service in ("gloo-xds", "gateway", "gateway-proxy", "echo"):
            wait_until(lambda name=service: cluster.consul.passing(name) != [], service, START_SECONDS)  # type: ignore[misc]
        wait_until(lambda: scene.get("/echo/hello").status == 200, "an answer over HTTP", START_SECONDS)
        wait_until(lambda: scene.get_securely("/echo/hello").status == 200, "an answer over HTTPS", START_SECONDS)
    except ServerError as failure:
        pytest.fail(f"{failure}\n{cluster.nomad.task_logs('gloo')}", pytrace=False)


def _daemons(nomad: NomadAgent) -> frozenset[int]:
    """The process ids of the job's gloo-nomad tasks."""
    found = set()
    for process in psutil.Process(nomad.server.pid).children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "--role" in line and any(part.endswith("gloo-nomad") for part in line):
            found.add(process.pid)
    return frozenset(found)


def _stop_allocation(nomad: NomadAgent, group: str) -> None:
    """Stops the main job's running allocation of a group; Nomad starts another."""
    for allocation in nomad.request("GET", "job/gloo/allocations"):
        if allocation["TaskGroup"] == group and allocation["ClientStatus"] == "running":
            nomad.request("POST", f"allocation/{allocation['ID']}/stop")


class TestMainJob(CoreScenarios):
    """The scenarios from Consul KV, and what only a cluster can show."""

    def test_consul_knows_every_group(self, scene: Scene, cluster: Cluster) -> None:
        """The services that people and Envoys look for are registered with their tags and pass their checks."""
        found = {name: cluster.consul.passing(name) for name in ("gloo-xds", "gateway", "gateway-proxy")}

        assert [set(entry["Service"]["Tags"]) for entry in found["gloo-xds"]] == [{"gloo", "xds", "grpc"}]
        assert len(found["gateway"]) == 1
        ports = {entry["Service"]["Tags"][1]: entry["Service"]["Port"] for entry in found["gateway-proxy"]}
        assert ports == {"http": scene.http_port, "https": scene.https_port}

    def test_the_status_is_written(self, scene: Scene) -> None:
        """What became of an object stands in its key: Accepted, or Rejected with the reason."""
        source = scene.source
        assert isinstance(source, ConsulKv)
        host = scene.put_host("e2e-status", direct("fine"))
        scene.wait_for(host, "/x", 200, "fine")
        wait_until(
            lambda: "Accepted" in source.text(VIRTUAL_SERVICE, "e2e-status"), "the status Accepted", FOLLOW_SECONDS
        )

        source.put(
            VIRTUAL_SERVICE, "e2e-status", "metadata: {name: e2e-status, namespace: gloo-system}\nnoSuchField: 1\n"
        )

        wait_until(
            lambda: "Rejected" in source.text(VIRTUAL_SERVICE, "e2e-status"), "the status Rejected", FOLLOW_SECONDS
        )
        assert "noSuchField" in source.text(VIRTUAL_SERVICE, "e2e-status")
        scene.delete_host("e2e-status")
        scene.wait_for(host, "/x", 404)

    def test_another_jobs_service_needs_only_a_route(self, scene: Scene, cluster: Cluster) -> None:
        """A service that another Nomad job starts is found and routed to with no object but the route."""
        host = scene.put_host("e2e-other", to_consul("e2e-other"))
        variables = echo_variables(job_name="e2e-other", service="e2e-other", count="1")
        cluster.nomad.command("job", "run", "-detach", *variables, str(JOBS / "echo.nomad.hcl"))
        wait_until(lambda: cluster.consul.passing("e2e-other") != [], "the service", START_SECONDS)

        scene.wait_for(host, "/x", 200, "e2e-other.echo[0]")

        self._check_discovered_upstream(scene)
        cluster.nomad.command("job", "stop", "-purge", "-detach", "e2e-other")
        wait_until(lambda: cluster.consul.passing("e2e-other") == [], "the end of the service", 60.0)
        scene.wait_for(host, "/x", 503)
        scene.delete_host("e2e-other")
        scene.wait_for(host, "/x", 404)

    @staticmethod
    def _check_discovered_upstream(scene: Scene) -> None:
        """Discovery wrote an Upstream for the service, and a route to it works."""
        source = scene.source
        assert isinstance(source, ConsulKv)
        wait_until(lambda: "consulplugin" in source.text(UPSTREAM, "e2e-other"), "the Upstream", FOLLOW_SECONDS)
        host = scene.put_host("e2e-discovered", to_upstream("e2e-other"))
        scene.wait_for(host, "/x", 200, "e2e-other.echo[0]")
        scene.delete_host("e2e-discovered")

    def test_a_critical_instance_gets_no_requests(self, scene: Scene, cluster: Cluster) -> None:
        """Of two instances the one whose check turns critical is left out, and used again when it passes."""
        wait_until(lambda: len(cluster.consul.passing("echo")) == 2, "two instances", START_SECONDS)
        wait_until(lambda: len(self._instances(scene)) == 2, "answers of both", FOLLOW_SECONDS)
        sick = cluster.consul.passing("echo")[0]["Service"]["Port"]
        name = fetch(sick, "/").json()["instance"]

        fetch(sick, "/health/critical", method="POST")
        wait_until(lambda: len(cluster.consul.passing("echo")) == 1, "the critical check", FOLLOW_SECONDS)
        wait_until(lambda: name not in self._instances(scene), "the end of its requests", FOLLOW_SECONDS)
        answered = self._instances(scene, requests=100)
        fetch(sick, "/health/passing", method="POST")

        assert len(answered) == 1
        assert name not in answered
        wait_until(lambda: len(self._instances(scene)) == 2, "its return", FOLLOW_SECONDS)

    @staticmethod
    def _instances(scene: Scene, requests: int = 20) -> set[str]:
        return {scene.get("/echo/x").json()["instance"] for _ in range(requests)}

    def test_envoy_serves_while_gloo_restarts(self, scene: Scene, cluster: Cluster) -> None:
        """A killed gloo loses no request; the new one takes over at another port, and Envoy follows it."""
        before = scene.daemon_pids()
        _stop_allocation(cluster.nomad, "gloo")
        tally = Tally()

        def is_replaced() -> bool:
            tally.ask(lambda: scene.get("/echo/hello"))
            return len(before & scene.daemon_pids()) < len(before) and cluster.consul.passing("gloo-xds") != []

        wait_until(is_replaced, "the new gloo", START_SECONDS)

        assert tally.seen == {200}
        host = scene.put_host("e2e-after", direct("after"))
        wait_until(lambda: scene.get("/x", host).status == 200, "a change after the restart", 60.0)
        scene.delete_host("e2e-after")
        scene.wait_for(host, "/x", 404)

    def test_a_stopping_envoy_drains(self, scene: Scene, cluster: Cluster) -> None:
        """A stopped Envoy leaves Consul first, answers what still comes, asks its clients to go, and is replaced."""
        answers = []
        with Connection(scene.http_port, host="localhost") as kept:
            assert kept.request("/echo/x").status == 200
            _stop_allocation(cluster.nomad, "gateway-proxy")
            wait_until(lambda: cluster.consul.passing("gateway-proxy") == [], "its leave", FOLLOW_SECONDS)

            def is_asked_to_go() -> bool:
                answers.append(kept.request("/echo/x"))
                return answers[-1].headers.get("connection") == "close"

            wait_until(is_asked_to_go, "the request to go elsewhere", 20.0)

        assert {answer.status for answer in answers} == {200}
        wait_until(lambda: cluster.consul.passing("gateway-proxy") != [], "the next Envoy", START_SECONDS)
        wait_until(lambda: scene.get("/echo/x").status == 200, "its first answer", 60.0)
