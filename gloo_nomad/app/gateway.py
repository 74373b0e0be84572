"""The gateway role: default Gateways when there are none, and the front door for people."""

import asyncio
from typing import Final

import structlog

from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.api import codec
from gloo_nomad.api.kinds import GATEWAY
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.front_door_access import build_guard
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.http import WorldError
from gloo_nomad.clients.nomad import NomadClient
from gloo_nomad.frontdoor.api import FrontDoor, build_app
from gloo_nomad.frontdoor.defaults import build_default_gateways
from gloo_nomad.frontdoor.objects import ObjectStore
from gloo_nomad.frontdoor.validation import Validator
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.serving import Tls, serve

log = structlog.get_logger(__name__)

FIRST_RETRY: Final = 2.0
LAST_RETRY: Final = 60.0
"""Seconds between tries to write a default Gateway, growing."""


async def create_default_gateways(engine: Engine, client: ConsulClient) -> None:
    """Writes the default Gateways once, if there is not a single one; never over an existing one."""
    await engine.config_listed.wait()
    settings = engine.settings
    wanted = settings.own("createDefaultGateways") and settings.translates_gateways
    if not wanted or engine.store.entries(GATEWAY.name):
        return
    for gateway in build_default_gateways(settings.write_namespace):
        ref = Ref(gateway.metadata.namespace, gateway.metadata.name)
        value = codec.to_yaml(codec.encode(gateway, kind=GATEWAY)).encode()
        created = await _create(client, GATEWAY.key(settings.root_key, ref), value)
        log.info("default_gateway", object=str(ref), created=created)


async def _create(client: ConsulClient, key: str, value: bytes) -> bool:
    """Writes a key that does not exist; False if it does."""
    pause = FIRST_RETRY
    while True:
        try:
            return await client.kv_put(key, value, cas=0)
        except WorldError as failure:
            log.warning("default_gateway_not_written", key=key, reason=str(failure), again_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_RETRY)


async def serve_front_door(engine: Engine, store: ObjectStore, metrics: Metrics, nomad: NomadClient | None) -> None:
    """Serves the REST API until cancelled; validation has a pipeline of its own, so that it never delays serving."""
    settings = engine.base
    pipeline = Pipeline()
    validator = Validator(
        current=lambda: (engine.store.snapshot, engine.settings.message),
        translate=lambda snapshot, message: pipeline.translate(snapshot, message).problems,
    )
    door = FrontDoor(
        store=store,
        validate=validator.validate,
        guard=build_guard(settings, nomad),
        ready=engine.sources_listed.is_set,
        validated=metrics.validated,
    )
    host, port = settings.front_door_bind
    cert, key = str(settings.own("frontDoorTlsCert")), str(settings.own("frontDoorTlsKey"))
    tls = Tls(cert, key) if cert or key else None
    await serve(build_app(door), host, port, "the front door", tls)
