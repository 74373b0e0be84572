"""What of a Settings object has an effect: one module for each group of settings, found by walking this package.

``FIELDS`` claims fields of the contract, as in ``options.hooks``; ``FIXED`` has the paths of those that are decided at
the start, which the object in Consul KV cannot change. ``OWN`` declares settings of our own with their
defaults (text, true or false, a float, a tuple, a dict), and ``OWN_FIXED`` names those of them that
are decided at the start; ``OWN_CHOICES`` has the texts that one may be.
"""
