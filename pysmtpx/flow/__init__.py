"""Conversations as generators: they say what to write and are handed the replies."""
