"""Addresses of our own servers."""

from typing import Final

OWN: Final = {
    "adminBindAddr": "127.0.0.1:9091",
    "devBindAddr": "127.0.0.1:10010",
    "frontDoorBindAddr": "127.0.0.1:9095",
    "frontDoorTlsCert": "",
    "frontDoorTlsKey": "",
}
OWN_FIXED: Final = tuple(OWN)
