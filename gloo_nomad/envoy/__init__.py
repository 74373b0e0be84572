"""Proxies and upstreams to the resources that Envoy is served. Pure functions; names are made in ``names`` only."""
