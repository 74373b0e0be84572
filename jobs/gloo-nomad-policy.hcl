# What gloo-nomad needs from Nomad where ACLs are on, if services that are registered with Nomad are to be served: their
# names and addresses, and what their checks say.
#
#   nomad acl policy apply -namespace default -job gloo gloo-nomad jobs/gloo-nomad-policy.hcl

namespace "*" {
  capabilities = ["read-job"]
}
