"""What an operator looks at: metrics, health, and what the daemon knows and serves, with secrets redacted."""
