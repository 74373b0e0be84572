"""The gateway role: default Gateways when there are none, and the front door for people."""

import asyncio

import structlog

from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.api import codec
from gloo_nomad.api.kinds import GATEWAY
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.http import WorldError
from gloo_nomad.frontdoor.access import tokens_of
from gloo_nomad.frontdoor.api import FrontDoor, build_app
from gloo_nomad.frontdoor.defaults import build_default_gateways
from gloo_nomad.frontdoor.objects import ObjectStore
from gloo_nomad.frontdoor.validation import Validator
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.serving import Tls, serve

log = structlog.get_logger(__name__)

RETRY_SECONDS = 2.0


async def create_default_gateways(engine: Engine, client: ConsulClient) -> None:
    """Writes the default Gateways once, if there is not a single one; never over an existing one."""
    await engine.sources_listed.wait()
    settings = engine.settings
    if not settings.own("createDefaultGateways") or engine.store.entries(GATEWAY.name):
        return
    for gateway in build_default_gateways(settings.write_namespace):
        ref = Ref(gateway.metadata.namespace, gateway.metadata.name)
        value = codec.to_yaml(codec.encode(gateway, kind=GATEWAY)).encode()
        while True:
            try:
                created = await client.kv_put(GATEWAY.key(settings.root_key, ref), value, cas=0)
            except WorldError as failure:
                log.warning("default_gateway_not_written", object=str(ref), reason=str(failure))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                log.info("default_gateway", object=str(ref), created=created)
                break


async def serve_front_door(engine: Engine, store: ObjectStore, metrics: Metrics) -> None:
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
        authorize=tokens_of(settings.environ),
        ready=engine.sources_listed.is_set,
        validated=metrics.validated,
    )
    host, port = settings.front_door_bind
    cert, key = str(settings.own("frontDoorTlsCert")), str(settings.own("frontDoorTlsKey"))
    tls = Tls(cert, key) if cert or key else None
    await serve(build_app(door), host, port, "the front door", tls)
