"""gloo-nomad: an API gateway for people who run Consul, Nomad and Vault.

Configuration objects in, incremental xDS out. The arrow, one package a stage:

    sources -> store -> gateway -> envoy -> xds

``pipeline`` is the page that names all the stages, ``app`` the one that starts tasks.
"""

__version__ = "0.1.0"
