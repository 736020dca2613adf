"""Commands of ``manage.py`` for the outbox; Django finds each by the name of its file."""
