"""Migrations; Django finds each by the name of its file."""
