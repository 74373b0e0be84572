"""Metrics, health and snapshots over HTTP."""
