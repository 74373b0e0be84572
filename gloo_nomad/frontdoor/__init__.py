"""The front door for people: a REST API that validates before it writes."""
