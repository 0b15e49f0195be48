"""SQLite, opened one way."""
