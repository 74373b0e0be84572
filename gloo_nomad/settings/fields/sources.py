"""Where objects, secrets and artifacts are read from."""

from typing import Final

FIELDS: Final = {
    "gloo.solo.io.Settings": (
        "metadata",
        "discovery_namespace",
        "watch_namespaces",
        "consul_kv_source",
        "directory_config_source",
        "vault_secret_source",
        "directory_secret_source",
        "secret_options",
        "consul_kv_artifact_source",
        "directory_artifact_source",
        "refresh_rate",
        "extensions",
    ),
    "gloo.solo.io.Settings.SecretOptions.Source": (
        "vault",
        "directory",
    ),
}
REFUSED: Final = {"gloo.solo.io.Settings": ("kubernetes_config_source",)}
EXTENSIONS: Final = ("gloo-nomad",)
FIXED: Final = ("consul_kv_source", "directory_config_source", "kubernetes_config_source")
