"""Commands of ``manage.py``; Django finds each by the name of its file."""
