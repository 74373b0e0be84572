"""The only code that speaks HTTP out: Consul, Vault and Nomad."""
