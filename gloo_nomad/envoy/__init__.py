"""Proxies and upstreams to Envoy resources; pure."""
