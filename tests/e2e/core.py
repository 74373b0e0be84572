"""The scenarios that hold for every source of objects."""

from collections.abc import Callable

from gloo_nomad.api.kinds import UPSTREAM, VIRTUAL_SERVICE
from gloo_nomad.demo.processes import wait_until
from tests.e2e.scene import FOLLOW_SECONDS, Scene, Tally, direct, to_upstream


class CoreScenarios:
    """Run for each source by a subclass whose module has the fixture ``scene``."""

    def test_the_seed_is_served(self, scene: Scene) -> None:
        """The example objects answer over HTTP and HTTPS, through the delegated route."""
        plain = scene.get("/echo/hello")
        secure = scene.get_securely("/echo/hello")

        assert (plain.status, plain.json()["path"]) == (200, "/hello")
        assert (secure.status, secure.json()["path"]) == (200, "/hello")
        assert scene.get("/").text == "Hello from gloo-nomad. Try /echo/hello\n"
        assert scene.get("/nowhere").status == 404

    def test_a_route_appears_changes_and_goes(self, scene: Scene) -> None:
        """A written VirtualService is served, an edit changes the answer, and its deletion leaves 404."""
        host = scene.put_host("e2e-life", direct("first"))
        scene.wait_for(host, "/x", 200, "first")

        scene.put_host("e2e-life", direct("second"))
        scene.wait_for(host, "/x", 200, "second")

        scene.delete_host("e2e-life")
        scene.wait_for(host, "/x", 404)

    def test_an_edited_upstream_moves_the_traffic(self, scene: Scene, run_echo: Callable[..., int]) -> None:
        """A route follows its Upstream to another address without a failed request."""
        ports = [run_echo("mover-a"), run_echo("mover-b")]
        scene.put(UPSTREAM, "e2e-mover", {"static": {"hosts": [{"addr": "127.0.0.1", "port": ports[0]}]}})
        host = scene.put_host("e2e-mover", to_upstream("e2e-mover"))
        scene.wait_for(host, "/x", 200, "mover-a")

        scene.put(UPSTREAM, "e2e-mover", {"static": {"hosts": [{"addr": "127.0.0.1", "port": ports[1]}]}})
        tally = Tally()

        def is_moved() -> bool:
            answer = tally.ask(lambda: scene.get("/x", host))
            return answer is not None and "mover-b" in answer.text

        wait_until(is_moved, "the move of the traffic", FOLLOW_SECONDS)
        assert tally.seen == {200}
        scene.delete_host("e2e-mover")
        scene.wait_for(host, "/x", 404)
        scene.source.delete(UPSTREAM, "e2e-mover")

    def test_a_bad_object_hurts_only_itself(self, scene: Scene) -> None:
        """Bad YAML, an unknown field and binary garbage leave everything else served and changeable."""
        daemons = scene.daemon_pids()
        scene.source.put(VIRTUAL_SERVICE, "e2e-bad-yaml", "metadata: [}")
        scene.source.put(
            VIRTUAL_SERVICE, "e2e-bad-field", "metadata: {name: e2e-bad-field, namespace: gloo-system}\nno: 1\n"
        )
        scene.source.put(VIRTUAL_SERVICE, "e2e-bad-bytes", "\x00\x01\x02")

        host = scene.put_host("e2e-good", direct("good"))
        scene.wait_for(host, "/x", 200, "good")
        scene.put_host("e2e-good", direct("better"))
        scene.wait_for(host, "/x", 200, "better")

        assert scene.get("/echo/hello").status == 200
        assert scene.daemon_pids() == daemons
        for name in ("e2e-bad-yaml", "e2e-bad-field", "e2e-bad-bytes", "e2e-good"):
            scene.delete_host(name)
        scene.wait_for(host, "/x", 404)

    def test_a_repaired_object_is_served(self, scene: Scene) -> None:
        """An object that was rejected is served as soon as it is right."""
        scene.source.put(VIRTUAL_SERVICE, "e2e-repair", "metadata: {name: e2e-repair, namespace: gloo-system}\nno: 1\n")

        host = scene.put_host("e2e-repair", direct("repaired"))

        scene.wait_for(host, "/x", 200, "repaired")
        scene.delete_host("e2e-repair")
        scene.wait_for(host, "/x", 404)

    def test_a_rotated_certificate_drops_no_connection(self, scene: Scene) -> None:
        """New connections get the new certificate, while an open one goes on, and no request fails meanwhile."""
        before = scene.get_securely("/echo/hello").certificate
        renewed = scene.authority.issue("localhost", "127.0.0.1")
        with scene.connect_securely() as kept:
            assert kept.request("/echo/kept").status == 200

            scene.source.put_certificate("gateway-tls", renewed)
            tally = Tally()

            def is_renewed() -> bool:
                tally.ask(lambda: kept.request("/echo/kept"))
                answer = tally.ask(lambda: scene.get_securely("/echo/new"))
                return answer is not None and answer.certificate == renewed.der

            wait_until(is_renewed, "the new certificate", 60.0)
            last = kept.request("/echo/kept")

        assert tally.seen == {200}
        assert last.status == 200
        assert last.certificate == before
        assert before != renewed.der

    def test_a_missing_certificate_waits_alone(self, scene: Scene) -> None:
        """A virtual service whose certificate does not exist is served once it does; others never notice."""
        reference = {"name": "e2e-late-tls", "namespace": "gloo-system"}
        host = scene.put_host(
            "e2e-late", direct("late"), sslConfig={"secretRef": reference, "sniDomains": ["e2e-late.test"]}
        )
        marker = scene.put_host("e2e-late-marker", direct("seen"))
        scene.wait_for(marker, "/x", 200, "seen")
        assert scene.get_securely("/echo/hello").status == 200

        pair = scene.authority.issue(host)
        scene.source.put_certificate("e2e-late-tls", pair)

        def is_served() -> bool:
            answer = scene.get_securely("/x", host)
            return answer.status == 200 and answer.text == "late" and answer.certificate == pair.der

        wait_until(is_served, "the late certificate", 60.0)
        assert scene.get_securely("/echo/hello").status == 200
        scene.delete_host("e2e-late")
        scene.delete_host("e2e-late-marker")
        scene.wait_for(marker, "/x", 404)
