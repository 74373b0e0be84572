"""Writes what Consul and Nomad know as Upstream objects."""
