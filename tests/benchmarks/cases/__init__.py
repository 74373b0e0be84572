"""Cases of the suite, a module for each; what they are is in ``tests/benchmarks/case.py``."""
