"""The certificates of demos and tests, by the name that these know them by."""

from gloo_nomad.certificates import Authority, KeyPair

__all__ = ["Authority", "KeyPair"]
