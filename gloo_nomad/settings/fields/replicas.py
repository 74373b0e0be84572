"""Settings of our own for several replicas, and for their end."""

from typing import Final

OWN: Final = {"leaderSessionSeconds": 10.0, "stopGraceSeconds": 1.0}
OWN_FIXED: Final = tuple(OWN)
