# What gloo-nomad needs from Consul where ACLs are on.
#
#   consul acl policy create -name gloo -rules @jobs/gloo-consul-policy.hcl
#   consul acl token create -policy-name gloo -description gloo-nomad

# The objects: read and watched; statuses, discovered Upstreams and the leader's lock are written.
key_prefix "gloo/" {
  policy = "write"
}

# The sessions that hold the lock.
session_prefix "" {
  policy = "write"
}

# The services that routes may lead to, and the nodes they are on.
service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

agent_prefix "" {
  policy = "read"
}

# Who the gateway is in Consul's mesh: a certificate for the service gateway-proxy (the setting meshServiceName). Only
# upstreams with connectEnabled need it.
service "gateway-proxy" {
  policy = "write"
}
