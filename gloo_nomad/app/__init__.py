"""The composition root: the only place that builds objects and starts tasks. One role is one task group."""
