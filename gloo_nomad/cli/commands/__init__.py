"""Each module here adds its verbs by ``register(app)``; ``POSITION`` says where they stand in the help."""
