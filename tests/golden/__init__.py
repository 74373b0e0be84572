"""Golden tests: what objects lead to, written down. ``make golden`` writes it anew, and the diff is the review."""
