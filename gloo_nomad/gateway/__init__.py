"""Gateways, virtual services and route tables to proxies; pure."""
