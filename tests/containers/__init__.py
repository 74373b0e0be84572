"""The image and both Compose deployments in real containers: ``make test-containers``."""
