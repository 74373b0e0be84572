"""Hostile input: anything that comes from outside, thrown at what reads it (``make fuzz``).

One target is one module of ``targets``, found by walking the package: its ``fuzz(data)`` returns for every input, and
raises when something is wrong. Inputs worth keeping are files in ``corpus/<target>``.
"""
