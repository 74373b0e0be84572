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

# KV v1 has neither part in its paths.
path "secret/gloo/*" {
  capabilities = ["read", "list"]
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
