"""Services that are registered with Nomad: how it is reached (with the variables of its own clients), what is used."""

from typing import Final

OWN: Final = {
    "nomadAddress": "",
    "nomadTokenFile": "",
    "nomadServices": True,
    "nomadUpstreams": True,
    "nomadNamespaces": (),
}
OWN_FIXED: Final = ("nomadAddress", "nomadTokenFile")
