"""Consul's service mesh: who the gateway is in it, and which services are reached through it."""

from typing import Final

OWN: Final = {
    "meshServiceName": "gateway-proxy",
    "meshServices": (),
}
