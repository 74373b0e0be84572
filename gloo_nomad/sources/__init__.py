"""Outside to ``Change``: each source watches one place and says what is different there."""
