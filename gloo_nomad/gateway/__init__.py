"""Gateways, virtual services and route tables to proxies, purely.

``translate`` is the stage. ``hosts`` converts one virtual service, by ``routes`` and ``delegation`` (which rest on
``matchers``, ``inheritance``, ``ordering``, ``tables`` and ``labels``); ``listeners`` puts the converted ones together
for one gateway, by ``selection``, ``domains`` and ``ssl``; ``addresses`` keeps gateways of one proxy apart.
"""
