"""Who may use headers that are in a Secret."""

from typing import Final

OWN: Final = {"headerSecretNamespaceMatches": False}
"""Whether a ``headerSecretRef`` must be in the namespace of each Upstream that gets the headers."""
OWN_FIXED: Final = tuple(OWN)
