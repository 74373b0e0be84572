"""The front door for people: objects are validated by the pipeline before they are stored.

Consul KV asks nobody before it takes a value. Who writes through this REST API, or through the command line that uses
the same parts, learns what the object would do beforehand.
"""
