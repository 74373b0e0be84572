"""Who we are in Consul's mesh: our certificate, and the roots that others are verified with.

Both are blocking queries to the local agent, which has the certificate renewed before it ends and when the roots
rotate. As long as they cannot be read nothing is said, and what was known stays in service.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.blocking import Query, Report, watch_index
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import LeafAnswer, RootsAnswer
from gloo_nomad.clients.http import BadRequestError, ForbiddenError, NotFoundError, ServerError, WorldError
from gloo_nomad.sources.service_sweep import ServiceKey
from gloo_nomad.sources.source import SourceState, cancel, raise_defects
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.mesh import MESH_IDENTITY, MeshIdentity, parse_spiffe

_LEAF: Final = "certificate"
_ROOTS: Final = "roots"
_SWITCH: Final = "is connect.enabled on Consul's servers, and on this agent?"

MeshAnswer = LeafAnswer | RootsAnswer


class ConsulMeshSource:
    """Watches the identity of one service, if one is wanted."""

    def __init__(self, client: ConsulClient, *, wait: float = 60.0, name: str = "consul-mesh-identity") -> None:
        """*wait* is the longest wait of a query in seconds."""
        self.name = name
        self.state = SourceState(name)
        self._client = client
        self._wait = wait
        self._wanted = ""
        self._service = ""
        """Whom the answers are about."""
        self._answers: dict[str, MeshAnswer] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()

    def want(self, services: frozenset[ServiceKey]) -> None:
        """From now on we are this service, or nobody; to be called in the event loop."""
        self._wanted = next((name for _, name in services), "")
        self._wake.set()

    async def watch_changes(self) -> AsyncGenerator[Change, None]:
        """Yields the identity once both its halves are known, and then whenever one of them is another."""
        sent: MeshIdentity | None = None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._follow_wanted()
                identity = self._identity()
                if identity == sent or (identity is None and self._service):
                    continue
                sent = identity
                puts = {Ref("", self._service): Entry(identity)} if identity else {}
                yield Change(self.name, MESH_IDENTITY, puts, complete=True)
                self.state.sent(_LEAF)
                self.state.parts.discard(_ROOTS)
        finally:
            await cancel(self._watching)

    async def _follow_wanted(self) -> None:
        """Ends the queries of whom we were, and begins those of whom we are."""
        raise_defects(self._watching)
        if self._wanted == self._service:
            return
        await cancel(self._watching)
        self._wake.clear()
        self._service, self._answers, self._watching = self._wanted, {}, []
        for part in (_LEAF, _ROOTS):
            self.state.forget(part)
        if service := self._service:

            async def leaf(index: int, wait: float) -> LeafAnswer:
                return await self._client.connect_leaf(service, index, wait)

            self._watch(_LEAF, leaf, f"the token needs service:write on {service}")
            self._watch(_ROOTS, self._client.connect_roots, "Consul does not know the token")

    def _watch(self, part: str, query: Query[MeshAnswer], right: str) -> None:
        """Begins a watch; *right* is what the token may lack."""
        self.state.expect(part)
        report = self._reporter(part, right)

        async def watch() -> None:
            try:
                async with aclosing(watch_index(query, lambda: self._wait, report)) as answers:
                    async for seen in answers:
                        self._answers[part] = seen.answer
                        self._wake.set()
            finally:
                self._wake.set()

        self._watching.append(asyncio.create_task(watch(), name=f"{self.name}/{part}"))

    def _reporter(self, part: str, right: str) -> Report:
        """What the client's loop reports, with what helps."""

        def report(failure: WorldError | None) -> None:
            match failure:
                case None:
                    self.state.succeed(part)
                case ForbiddenError():
                    self.state.fail(part, f"{failure}; {right}")
                case BadRequestError() | NotFoundError() | ServerError():
                    self.state.fail(part, f"{failure}; {_SWITCH}")
                case _:
                    self.state.fail(part, str(failure))

        return report

    def _identity(self) -> MeshIdentity | None:
        """What the answers say together; None as long as one is missing."""
        leaf, roots = self._answers.get(_LEAF), self._answers.get(_ROOTS)
        if not isinstance(leaf, LeafAnswer) or not isinstance(roots, RootsAnswer):
            return None
        place = parse_spiffe(leaf.service_uri)
        if place is None:
            self.state.fail(_LEAF, f"Consul's certificate is for {leaf.service_uri!r}, which is no service")
            return None
        secret = secret_pb2.Secret()
        secret.tls.cert_chain = leaf.cert_pem
        secret.tls.private_key = leaf.private_key_pem
        secret.tls.root_ca = roots.pem
        return MeshIdentity(place, secret)
