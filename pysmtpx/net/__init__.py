"""Sockets, TLS and the clock: everything that can block."""
