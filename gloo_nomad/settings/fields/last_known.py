"""What is kept on disk for a start without Consul, Vault and Nomad, and where the key for its secrets is."""

from typing import Final

OWN: Final = {
    "dataDirectory": "",
    "dataKeyFile": "",
    "dataKeyTransit": "",
}
OWN_FIXED: Final = ("dataDirectory", "dataKeyFile", "dataKeyTransit")
