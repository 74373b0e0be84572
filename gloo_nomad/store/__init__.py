"""What the world looks like now: an immutable snapshot, and memory of what was computed from earlier ones."""
