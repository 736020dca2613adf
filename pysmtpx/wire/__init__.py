"""Bytes and values of SMTP and LMTP; nothing here reads or writes a socket."""
