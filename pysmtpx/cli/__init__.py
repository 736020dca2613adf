"""The command line: ``pysmtpx check``, ``send``, ``bulk`` and ``sink``."""
