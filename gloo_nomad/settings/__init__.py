"""Settings: the file, the environment and flags, with the Settings object of Consul KV laid on top, live.

The reference reads ``DIR/NAMESPACE/NAME.yaml`` and nothing else. Here a Consul address is enough to start, and the
object ``<root>/gloo.solo.io/v1/Settings/<namespace>/<name>`` in Consul KV overrides the file field by field for as long
as it exists. What the contract has no field for stands in ``extensions.configs["gloo-nomad"]`` (``settings.own``).

A feature with settings of its own adds a module to ``settings.fields``, and edits no list.
"""

from gloo_nomad.settings.addresses import SettingsError, parse_address
from gloo_nomad.settings.load import Flags, load_settings
from gloo_nomad.settings.own import OWN_FIELDS, own_findings, own_path
from gloo_nomad.settings.runtime import DEFAULT_NAMESPACE, DEFAULT_ROOT_KEY, RuntimeSettings, source_findings
from gloo_nomad.settings.status_labels import label_findings

__all__ = [
    "DEFAULT_NAMESPACE",
    "DEFAULT_ROOT_KEY",
    "OWN_FIELDS",
    "Flags",
    "RuntimeSettings",
    "SettingsError",
    "label_findings",
    "load_settings",
    "own_findings",
    "own_path",
    "parse_address",
    "source_findings",
]
