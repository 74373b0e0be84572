"""The golden cases of the options: what users write, and what difference it makes. Tests run them, people read them.

A case stands in ``<option>.yaml`` beside ``<option>.py``. Its objects hold only what matters; what is left out comes
from a frame: a Gateway on port 8080, a VirtualService with one route, and an Upstream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

import yaml

from gloo_nomad.options.registry import modules

PACKAGE: Final = "gloo_nomad.options"


@dataclass(frozen=True, slots=True)
class Case:
    """One example: objects, and what they lead to."""

    name: str
    shows: str
    """The fact that the case shows, in one sentence."""
    objects: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    envoy: Mapping[str, Any] = field(default_factory=dict)
    """By resource: each path in it that differs from the frame's, with the new value; null for what is gone."""
    problems: tuple[Mapping[str, str], ...] = ()
    """Severity, object, path and message of everything that is reported."""

    @property
    def rejected(self) -> bool:
        """Whether the input is refused."""
        return any(problem["severity"] == "error" for problem in self.problems)

    def to_document(self) -> dict[str, Any]:
        """The case as it stands in the file; parts without content are left out."""
        document: dict[str, Any] = {"name": self.name, "shows": self.shows, "objects": list(self.objects)}
        for name in ("settings", "envoy", "problems"):
            if content := getattr(self, name):
                document[name] = list(content) if name == "problems" else dict(content)
        return document

    def render(self) -> str:
        """The case as text for people: what it shows, the objects as YAML, and what comes of them."""
        document = self.to_document()
        objects = "---\n".join(_as_written(written) for written in document["objects"])
        outcome = {name: document[name] for name in ("settings", "envoy", "problems") if name in document}
        return f"# {self.name}: {self.shows}\n{objects}\n# Outcome\n{to_text(outcome)}"


def _as_written(document: Mapping[str, Any]) -> str:
    """An object as it is stored; its kind is a remark, because a stored object does not say it."""
    fields = {name: value for name, value in document.items() if name != "kind"}
    return f"# {document['kind']}\n{to_text(fields)}"


def option_names() -> tuple[str, ...]:
    """All options, sorted."""
    return tuple(module.__name__.rpartition(".")[2] for module in modules(PACKAGE))


@cache
def load_cases(name: str) -> tuple[Case, ...]:
    """The cases of an option.

    Raises:
        KeyError: there is no such option, or it has no cases.
    """
    file = resources.files(PACKAGE).joinpath(f"{name}.yaml")
    if name not in option_names() or not file.is_file():
        raise KeyError(name)
    return parse_cases(file.read_text(encoding="utf-8"))


def about(name: str) -> str:
    """What an option is for: the documentation of its module."""
    found = {module.__name__.rpartition(".")[2]: module for module in modules(PACKAGE)}
    return (found[name].__doc__ or "").strip()


def parse_cases(text: str) -> tuple[Case, ...]:
    """The cases in a file's text."""
    return tuple(_parse_case(document) for document in yaml.load(text, yaml.CSafeLoader) or ())


def _parse_case(document: Mapping[str, Any]) -> Case:
    return Case(
        document["name"],
        document["shows"],
        tuple(document["objects"]),
        document.get("settings", {}),
        document.get("envoy", {}),
        tuple(document.get("problems", ())),
    )


def to_text(document: Any) -> str:
    """A document as YAML, keys in their order."""
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=110)
