"""Benchmarks against real servers; run by ``make bench``."""
