"""Internet messages (RFC 5322, MIME) made fit for a server, on top of Python's ``email``."""
