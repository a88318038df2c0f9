"""Runs the migrations on the connection that records/migrate.py hands over, or writes them as text for the dialect it names."""

from alembic import context

from authsvc.records.schema import METADATA

handed = context.config.attributes
if context.is_offline_mode():
    # Oracle commits before and after each statement of DDL, whatever anyone says.
    transactional = handed["dialect"] == "sqlite"
    context.configure(dialect_name=handed["dialect"], target_metadata=METADATA, literal_binds=True, transactional_ddl=transactional)
    # Whoever runs the text by hand has no variable for what a statement returns.
    context.get_context().dialect.insert_returning = False
else:
    transactional = handed["connection"].dialect.name == "sqlite"
    context.configure(connection=handed["connection"], target_metadata=METADATA, transactional_ddl=transactional)
with context.begin_transaction():
    context.run_migrations()
