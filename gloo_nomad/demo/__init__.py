"""Real servers on this machine for demos and tests: found, started, waited for, stopped.

Nothing of the daemon imports this package. All of it listens on loopback.
"""
