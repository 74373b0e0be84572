"""The order of HTTP and network filters: named stages, a position in each, ties broken by name.

From https://docs.solo.io/gloo-edge/latest/concepts/traffic_filter_flow/: the order that users know.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from gloo_nomad.messages import to_bytes


class Stage(IntEnum):
    """What a filter is for; earlier stages see a request first."""

    FAULT = 0
    CORS = 1
    WAF = 2
    AUTHN = 3
    AUTHZ = 4
    RATE_LIMIT = 5
    ACCEPTED = 6
    OUT_AUTH = 7
    ROUTE = 8


class Position(IntEnum):
    """Where in its stage a filter stands."""

    BEFORE = -1
    DURING = 0
    AFTER = 1


@dataclass(frozen=True, slots=True)
class StagedFilter:
    """A filter (Envoy's HttpFilter or network Filter) and where it belongs."""

    stage: Stage
    filter: Any
    position: Position = Position.DURING

    def sort_key(self) -> tuple[int, int, str, str, bytes]:
        """Stage, position, then name and content, so that the order never depends on anything else."""
        config = self.filter.typed_config
        return self.stage, self.position, self.filter.name, config.type_url, to_bytes(config)
