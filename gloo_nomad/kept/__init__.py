"""What is kept on disk for a start without Consul, Vault and Nomad: files, their encryption, and what is in them."""
