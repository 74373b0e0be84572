"""What may fail without taking serving down: side jobs; and which roles can run at all."""

import asyncio

import pytest
from google.protobuf import json_format
from structlog.testing import capture_logs

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.run import ROLES, roles_for
from gloo_nomad.app.surviving import keep_running
from gloo_nomad.serving import ServingError
from gloo_nomad.settings import RuntimeSettings, SettingsError


def test_a_job_that_fails_begins_anew() -> None:
    """Each defect is logged with the job's name, and the job runs until it returns."""
    runs: list[int] = []

    async def job() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise RuntimeError("a defect")

    with capture_logs() as logs:
        asyncio.run(keep_running("the job", job, again=0.01))

    assert runs == [0, 1, 2]
    assert [(entry["event"], entry["job"], entry["exc_info"]) for entry in logs] == [
        ("job_failed", "the job", True),
        ("job_failed", "the job", True),
    ]


def test_a_group_of_defects_is_a_defect() -> None:
    """What a task group raises is survived like any other exception."""
    runs: list[int] = []

    async def fail() -> None:
        raise RuntimeError("a defect")

    async def job() -> None:
        runs.append(1)
        if len(runs) == 1:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())

    with capture_logs():
        asyncio.run(keep_running("the job", job, again=0.01))
    assert len(runs) == 2


def test_a_taken_address_is_for_people_to_mend() -> None:
    """It ends the job, and with it the process."""

    async def job() -> None:
        raise ServingError("taken")

    with pytest.raises(ServingError):
        asyncio.run(keep_running("the job", job, again=0.01))


def test_a_cancelled_job_ends() -> None:
    """The end of the process is no defect."""

    async def whole() -> None:
        task = asyncio.create_task(keep_running("the job", asyncio.Event().wait, again=0.01))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(whole())


def settings(document: dict[str, object]) -> RuntimeSettings:
    """Settings in force."""
    return RuntimeSettings(json_format.ParseDict(document, settings_pb2.Settings()), Ref("gloo-system", "default"))


def test_roles() -> None:
    """Without a wish all roles run on Consul KV, and only ``gloo`` on a folder; a wish is followed."""
    consul, folder = settings({"consulKvSource": {}}), settings({"directoryConfigSource": {"directory": "x"}})

    assert roles_for(consul, []) == set(ROLES)
    assert roles_for(folder, []) == {"gloo"}
    assert roles_for(consul, ["discovery"]) == {"discovery"}
    assert roles_for(folder, ["gateway", "gloo"]) == {"gateway", "gloo"}


def test_a_role_without_a_use() -> None:
    """Discovery has nowhere to write to without Consul KV: that is told, and not silence."""
    with pytest.raises(SettingsError, match="discovery writes Upstreams into Consul KV"):
        roles_for(settings({"directoryConfigSource": {"directory": "x"}}), ["gloo", "discovery"])
