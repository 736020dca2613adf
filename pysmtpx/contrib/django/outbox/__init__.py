"""An outbox in the project's own database: an app with models, and who sends from it."""
