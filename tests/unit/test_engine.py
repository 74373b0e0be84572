"""The engine: when it translates, and what it survives."""

import asyncio

from structlog.testing import capture_logs

from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.store.change import Change
from tests.engine_scene import HELLO, TO_WEB, WEB, Scene, run
from tests.pipeline.envoy_world import GATEWAY, ROLE, virtual_service


def test_nothing_is_published_before_everything_was_read() -> None:
    """Objects that arrive one by one are served together once the sources have listed."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY)
        await scene.engine.changes.join()
        scene.put(virtual_service(HELLO))
        await scene.engine.changes.join()
        await asyncio.sleep(0.05)
        assert (scene.published, scene.pipeline.rounds) == ([], 0)

        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        assert len(scene.published) == 1
        assert scene.published[0].keys() == {ROLE}
        assert scene.engine.published.is_set()

    run(scenario)


def test_an_empty_world_is_published_too() -> None:
    """Without any object the first publication is empty, and the process is ready."""

    async def scenario(scene: Scene) -> None:
        await scene.engine.begin()
        await scene.until(scene.engine.published.is_set)
        assert scene.published == [{}]

    run(scenario)


def test_what_changes_nothing_is_not_translated() -> None:
    """An object that is written again, with a status or without, causes a round but no translation."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY)
        await scene.engine.begin()
        await scene.until(lambda: scene.pipeline.rounds == 1)
        rounds = scene.engine.listener()
        rounds.clear()
        scene.put(f"{GATEWAY}namespacedStatuses: {{statuses: {{gloo-system: {{state: Accepted}}}}}}\n")
        async with asyncio.timeout(5):
            await rounds.wait()
        assert scene.pipeline.rounds == 1
        assert len(scene.published) == 1

    run(scenario)


def test_a_defect_takes_nothing_away() -> None:
    """A translation that fails leaves what was served, is told, and the next change is a new try."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(HELLO))
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        scene.pipeline.broken = True
        with capture_logs() as logs:
            scene.put(virtual_service(HELLO, name="second", domains="[b.com]"))
            await scene.until(lambda: scene.engine.failure != "")
        assert [(entry["event"], entry["what"]) for entry in logs] == [("not_served", "translation")]
        assert scene.engine.failure == "translation: RuntimeError"
        assert scene.engine.failing_since > 0
        assert len(scene.published) == 1

        scene.pipeline.broken = False
        scene.put(virtual_service(HELLO, name="third", domains="[c.com]"))
        await scene.until(lambda: len(scene.published) == 2)
        assert scene.engine.failure == ""

    run(scenario)


def test_a_change_that_cannot_be_taken_is_survived() -> None:
    """A change that breaks the store is told, and those after it are taken, objects and endpoints alike."""

    async def scenario(scene: Scene) -> None:
        with capture_logs() as logs:
            await scene.engine.begin()
            broken = Change("test", "Gateway", {Ref("gloo-system", "gw"): None})  # type: ignore[dict-item]
            scene.engine.changes.put_nowait(broken)
            scene.engine.services.put_nowait(broken)
            scene.put(GATEWAY, virtual_service(TO_WEB))
            scene.instances("web", 9001)
            await scene.until(lambda: any(ROLE in published for published in scene.published))
        assert {entry["what"] for entry in logs if entry["event"] == "not_served"} == {"change", "endpoints"}
        assert b"127.0.0.1" in scene.served(WEB)

    run(scenario)


def test_a_defect_at_the_beginning_is_no_empty_beginning() -> None:
    """As long as the first translation fails nothing at all is published."""

    async def scenario(scene: Scene) -> None:
        scene.pipeline.broken = True
        scene.put(GATEWAY)
        with capture_logs():
            await scene.engine.begin()
            await scene.until(lambda: scene.engine.failure != "")
        assert scene.published == []
        assert not scene.engine.published.is_set()
        scene.pipeline.broken = False
        scene.put(virtual_service(HELLO))
        await scene.until(lambda: len(scene.published) == 1)

    run(scenario)


def test_settings_of_consul_are_translated() -> None:
    """The Settings object of the process' own name is laid on top, and gone again with it; others mean nothing."""

    async def scenario(scene: Scene) -> None:
        await scene.engine.begin()
        await scene.until(lambda: scene.pipeline.rounds == 1)
        scene.put("kind: Settings\nmetadata: {name: other, namespace: gloo-system}\nconsul: {serviceDiscovery: {}}\n")
        await scene.engine.changes.join()
        assert not scene.engine.settings.discovers_services
        scene.put("kind: Settings\nmetadata: {name: default, namespace: gloo-system}\nconsul: {serviceDiscovery: {}}\n")
        await scene.until(lambda: scene.engine.settings.discovers_services)
        await scene.until(lambda: scene.pipeline.rounds == 3)
        gone = Change("test", SETTINGS.name, deletes=frozenset({Ref("gloo-system", "default")}))
        scene.engine.changes.put_nowait(gone)
        await scene.until(lambda: not scene.engine.settings.discovers_services)

    run(scenario)


def test_settings_that_cannot_be_used_are_reported() -> None:
    """Such an object is a problem of its own, and what was in force goes on."""

    async def scenario(scene: Scene) -> None:
        await scene.engine.begin()
        scene.put("kind: Settings\nmetadata: {name: default, namespace: gloo-system}\ndirectorySecretSource: {}\n")
        await scene.until(lambda: bool(scene.engine.problems()))
        (problem,) = scene.engine.problems()
        assert str(problem.ref) == "Settings gloo-system.default"
        assert scene.engine.settings is scene.engine.base

    run(scenario)
