"""How an object is named: inside its kind, and among all kinds."""

from typing import NamedTuple


class Ref(NamedTuple):
    """The name of an object inside its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"


class ObjectRef(NamedTuple):
    """The name of an object among all kinds; problems and statuses are addressed to it."""

    kind: str
    namespace: str
    name: str

    @property
    def ref(self) -> Ref:
        """The same name without the kind."""
        return Ref(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}.{self.name}"
