"""The Gateways that are made when there is none."""

from typing import Final

OWN: Final = {"createDefaultGateways": True}
