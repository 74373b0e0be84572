# What the Envoys of the job need from Vault or OpenBao with xds_tls = "vault": a certificate by which gloo knows them.
#
#   vault policy write gateway-proxy jobs/gateway-proxy-policy.hcl

path "pki/issue/gateway-proxy" {
  capabilities = ["create", "update"]
}
