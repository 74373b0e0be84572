"""Tests: of units, of stages, of properties, of servers, and of the whole."""
