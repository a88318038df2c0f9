"""The schema's history, as Alembic migrations; records/migrate.py runs them."""
