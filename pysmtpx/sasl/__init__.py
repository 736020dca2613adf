"""SASL: mechanisms and credentials, no I/O (RFC 4422)."""
