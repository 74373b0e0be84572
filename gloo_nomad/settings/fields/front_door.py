"""Who may use the REST API, and what for.

``frontDoorAuth`` says what a bearer token is: one of the environment's list (``tokens``), one of Consul's, whose ACL
then decides on every key (``consul``), or the workload identity of a Nomad task (``nomad``). For the last one
``frontDoorRights`` maps ``<Nomad namespace>/<job>`` to the namespaces of objects that it may ``read`` or ``write``; the
identity's audience is ``frontDoorAudience``, and its issuer ``frontDoorIssuer`` if Nomad has one.
"""

from typing import Final

OWN: Final = {
    "frontDoorAuth": "tokens",
    "frontDoorRights": {},
    "frontDoorAudience": "gloo-nomad",
    "frontDoorIssuer": "",
}
OWN_FIXED: Final = tuple(OWN)
OWN_CHOICES: Final = {"frontDoorAuth": ("tokens", "consul", "nomad")}
