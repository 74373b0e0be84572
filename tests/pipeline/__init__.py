"""Stages fed with objects as users write them."""
