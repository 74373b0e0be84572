"""The main job end to end: real Consul, Nomad, OpenBao and Envoy."""
