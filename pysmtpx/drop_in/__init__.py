"""The parts of ``pysmtpx.smtplib``."""
