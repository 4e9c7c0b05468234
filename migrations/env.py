"""What Alembic runs to set itself up: the connection comes from `migrations.schema`.

Each revision has a transaction of its own, so that a failed one leaves those before it in place.
Alembic's own table lies in the schema `migrations`, out of the application's way.
"""

from typing import Any

from alembic import context

from migrations.statements import VERSION_SCHEMA, version_schema_sql


def run() -> None:
    """Run, or in offline mode write, the revisions the command asks for."""
    options: dict[str, Any] = {
        "version_table_schema": VERSION_SCHEMA,
        "transaction_per_migration": True,
        "lock_timeout": context.config.attributes["lock_timeout"],
    }
    if context.is_offline_mode():
        context.configure(url="postgresql+psycopg://", literal_binds=True, **options)
        implementation = context.get_context().impl
        implementation.emit_begin()
        implementation.static_output(version_schema_sql(options["lock_timeout"]))
        implementation.emit_commit()
    else:
        context.configure(connection=context.config.attributes["connection"], **options)
    with context.begin_transaction():
        context.run_migrations()


run()
