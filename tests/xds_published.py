"""What a model of the xDS server is about: what is published, and what its client has said about it."""

from hypothesis import strategies as st

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Resource, XdsSnapshot
from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.sotw import SotwSession
from gloo_nomad.xds.view import RoleView

TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET)
NAMES = tuple("abcde")
BAD = "bad"
PATIENCE = 5.0

types = st.sampled_from(TYPES)
some_names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)
bodies = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["v1", "v2", "v3", BAD]))


def build_resources(texts: dict[str, str]) -> dict[str, Resource]:
    """Resources whose version is their body."""
    return {name: Resource(name, text, text.encode()) for name, text in texts.items()}


class Published:
    """What is served, and the streams that are told of changes."""

    def __init__(self) -> None:
        self.view = RoleView("role")
        self.now = 0.0
        self.content: dict[str, dict[str, str]] = {type_url: {} for type_url in TYPES}
        self.good: dict[tuple[str, str], str] = {}
        """What the client last accepted while it was published, as long as the resource exists."""
        self.rejected: set[tuple[str, str]] = set()
        """What the client rejects, and the server knows it, as long as the resource stays the same."""

    def accept(self, type_url: str, name: str, text: str) -> None:
        """The client accepts a resource."""
        if self.content[type_url].get(name) == text:
            self.good[type_url, name] = text

    def standby(self, type_url: str, name: str) -> str | None:
        """What the client is to have of a resource whose present version it rejects."""
        return None if type_url == ENDPOINTS else self.good.get((type_url, name))

    def _change(self, content: dict[str, dict[str, str]]) -> None:
        before = self.content
        self.content = {**before, **content}
        for type_url in content:
            for name in NAMES:
                text = self.content[type_url].get(name)
                if text != before[type_url].get(name):
                    self.rejected.discard((type_url, name))
                if text is None:
                    self.good.pop((type_url, name), None)

    def publish(self, content: dict[str, dict[str, str]]) -> None:
        """Replaces the types that are given and publishes all."""
        self._change(content)
        self.view.publish(XdsSnapshot({url: build_resources(texts) for url, texts in self.content.items()}))

    def publish_type(self, type_url: str, texts: dict[str, str]) -> None:
        """Replaces one type the quick way."""
        self._change({type_url: texts})
        self.view.publish_type(type_url, build_resources(texts))


class Attached:
    """A session as a view tells it of changes."""

    def __init__(self, session: DeltaSession | SotwSession) -> None:
        self.resources_changed = session.resources_changed

    def wake(self) -> None:
        """The rules ask for responses by themselves."""
