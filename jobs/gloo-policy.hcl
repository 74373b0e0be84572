# What gloo-nomad needs from Vault or OpenBao: to read the Secret objects below the root key `gloo` of the KV v2 engine
# `secret`, and their versions. `data` and `metadata` are parts of every KV v2 path.
#
#   vault policy write gloo jobs/gloo-policy.hcl

path "secret/data/gloo/*" {
  capabilities = ["read"]
}

path "secret/metadata/gloo/*" {
  capabilities = ["read", "list"]
}

# Versions of all secrets in one request: OpenBao has it, Vault does not mind the rule.
path "secret/detailed-metadata/gloo/*" {
  capabilities = ["list"]
}

# KV v1 has neither part in its paths.
path "secret/gloo/*" {
  capabilities = ["read", "list"]
}

# For Secrets that ask for a certificate: one rule for each mount path and role that they name.
path "pki/issue/gloo" {
  capabilities = ["create", "update"]
}

# The certificate of the xDS port (xds_tls = "vault").
path "pki/issue/gloo-xds" {
  capabilities = ["create", "update"]
}

# To renew its own token, and to see whether `secret` is version 1 or 2.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "sys/internal/ui/mounts/secret" {
  capabilities = ["read"]
}

# The key by which secrets are kept on disk, if Vault is to wrap it (data_key_transit = "transit/gloo-nomad").
path "transit/datakey/plaintext/gloo-nomad" {
  capabilities = ["update"]
}
path "transit/decrypt/gloo-nomad" {
  capabilities = ["update"]
}
