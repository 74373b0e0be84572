"""Role -> what its Envoys are served. The pipeline publishes, streams watch."""

from collections.abc import Mapping

from gloo_nomad.resources import Resources, XdsSnapshot
from gloo_nomad.xds.clients import Client, ClientRegistry
from gloo_nomad.xds.misconfigured import MISCONFIGURED_ROLE, build_misconfigured_snapshot
from gloo_nomad.xds.view import RoleView


class XdsCache:
    """Everything that is served, by role; used in the event loop only.

    A publication costs a look at each name of the types whose mapping is a new object, and wakes only the streams of
    the roles in which something differs. State-of-the-world streams are served from a view of their own, which exists
    only while there are such streams.
    """

    def __init__(self, *, ipv4_only: bool = False) -> None:
        self.tentative = False
        """Whether what is published may be older than what Envoys have; those that have something are served nothing
        until ``settle``."""
        self._views: dict[str, RoleView] = {}
        self._whole: dict[str, RoleView] = {}
        self._misconfigured = RoleView(MISCONFIGURED_ROLE)
        self._misconfigured.publish(build_misconfigured_snapshot(ipv4_only=ipv4_only))
        self.registry = ClientRegistry()

    def publish(self, snapshots: Mapping[str, XdsSnapshot]) -> None:
        """Serves the newest snapshots; a role that is not among them stays as it is (see ``remove``)."""
        for role, snapshot in snapshots.items():
            self._view(role).publish(snapshot)
            self._follow(role)

    def publish_type(self, role: str, type_url: str, resources: Resources) -> None:
        """Replaces the resources of one type of one role: the quick way for endpoints."""
        self._view(role).publish_type(type_url, resources)
        if role in self._whole:
            self._whole[role].publish_type(type_url, resources)

    def remove(self, role: str) -> None:
        """Takes everything away from a role's Envoys: its proxy is gone."""
        if role in self._views:
            self._views[role].publish(XdsSnapshot())
            self._follow(role)

    def view(self, role: str, *, delta: bool = True) -> RoleView:
        """What a node with this role is served; a node without one is told so by the ``misconfigured-node``."""
        if not role:
            return self._misconfigured
        if delta:
            return self._view(role)
        if role not in self._whole:
            whole = self._whole[role] = RoleView(role, delta=False, tentative=self.tentative)
            source = self._views.get(role)
            if source is not None and source.published:
                whole.publish(source.snapshot)
        return self._whole[role]

    def _follow(self, role: str) -> None:
        """Gives state-of-the-world streams what delta streams of the role were given."""
        source = self._views.get(role)
        if role in self._whole and source is not None and source.published:
            self._whole[role].publish(source.snapshot)
            self.release(self._whole[role])

    def release(self, view: RoleView) -> None:
        """Forgets a role that nobody published, or a view of the state of the world, if nobody waits any longer."""
        views = self._views if view.delta else self._whole
        if view.is_unused and views.get(view.role) is view:
            del views[view.role]

    def _view(self, role: str) -> RoleView:
        view = self._views.get(role)
        if view is None:
            view = self._views[role] = RoleView(role, tentative=self.tentative)
        return view

    def published(self, role: str) -> XdsSnapshot | None:
        """What is served to a role now, its state of the world; None if nobody published it."""
        view = self._views.get(role)
        return view.snapshot if view is not None and view.published else None

    def settle(self) -> None:
        """What is published is what there is: from now on every Envoy is served it."""
        self.tentative = False
        for view in (*self._views.values(), *self._whole.values()):
            view.settle()

    def snapshots(self) -> dict[str, XdsSnapshot]:
        """What delta streams are served now, by role."""
        return {role: view.snapshot.for_delta() for role, view in sorted(self._views.items()) if view.published}

    def clients(self) -> tuple[Client, ...]:
        """The connected streams, oldest first."""
        return tuple(self.registry)
