"""Resources to Envoys: delta and state-of-the-world streams of the aggregated discovery service."""
