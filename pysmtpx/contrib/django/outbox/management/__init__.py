"""Commands of ``manage.py`` for the outbox."""
