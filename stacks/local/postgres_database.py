"""The application's database and the role that owns it, which is no superuser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

if TYPE_CHECKING:
    import psycopg

# psycopg is imported where it is used: the program that only declares resources does without.


def set_password(url: str, role: str, password: str) -> None:
    """Give `role` the password, over a connection to `url`."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        _alter_role(connection, "ALTER", role, password)


def ensure_database(administrator_url: str, database: str, role: str, password: str) -> None:
    """Create the role and its database where missing; the role has `password` afterwards."""
    import psycopg
    from psycopg import sql

    identifiers = {"role": sql.Identifier(role), "database": sql.Identifier(database)}
    with psycopg.connect(administrator_url, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        _alter_role(connection, "ALTER" if known else "CREATE", role, password)
        if not connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [database]
        ).fetchone():
            connection.execute(
                sql.SQL("CREATE DATABASE {database} OWNER {role}").format(**identifiers)
            )
        connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**identifiers)
        )


def _alter_role(
    connection: psycopg.Connection, verb: Literal["ALTER", "CREATE"], role: str, password: str
) -> None:
    from psycopg import sql

    # The SCRAM verifier, which is what the server stores: it may log the statement.
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
            sql.SQL(verb), sql.Identifier(role), sql.Literal(verifier.decode())
        )
    )


_KEYS = ("administratorUrl", "database", "role", "password")


class _PostgresDatabaseProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=any(_olds.get(key) != _news.get(key) for key in _KEYS))

    def create(self, props: dict[str, Any]) -> CreateResult:
        ensure_database(*(props[key] for key in _KEYS))
        return CreateResult(props["database"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        ensure_database(*(_news[key] for key in _KEYS))
        return UpdateResult(_news)

    # Deletion leaves the database where it is: it goes with the data directory, or stays with it.


class PostgresDatabase(Resource, module="local", name="PostgresDatabase"):
    """`database`, owned by `role`."""

    def __init__(
        self,
        name: str,
        *,
        administrator_url: pulumi.Input[str],
        database: str,
        role: str,
        password: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            _PostgresDatabaseProvider(),
            name,
            {
                "administratorUrl": pulumi.Output.secret(administrator_url),
                "database": database,
                "role": role,
                "password": pulumi.Output.secret(password),
            },
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(additional_secret_outputs=["administratorUrl", "password"]),
                opts,
            ),
        )
