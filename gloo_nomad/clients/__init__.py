"""The only code that speaks HTTP to the outside: Consul, Vault, Nomad. Everything else asks a client."""
