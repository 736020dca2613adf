"""Durable records of what became of each recipient."""
