"""Names of what the engine creates, derived from the table's name alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date

from psycopg import sql

from migrations.partition.spec import Spec

SCHEMA = "partitioning"
PARTITIONED = "_partitioned"
RETIRED = "_retired"
LONGEST_NAME = 63
"""Bytes of an identifier that Postgres keeps (NAMEDATALEN - 1)."""


def fitted(name: str) -> str:
    """Return the name, or where it is too long its beginning and a hash of all of it."""
    octets = name.encode()
    if len(octets) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(octets).hexdigest()[:8]
    return octets[: LONGEST_NAME - 9].decode(errors="ignore") + "_" + digest


@dataclass(frozen=True)
class Names:
    """The names belonging to one table."""

    schema: str
    table: str

    @classmethod
    def of(cls, spec: Spec) -> Names:
        return cls(spec.schema_name, spec.table_name)

    def _relation(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @property
    def live(self) -> sql.Identifier:
        """The name the application uses: the old table before cutover, the new one after."""
        return self._relation(self.table)

    @property
    def partitioned_name(self) -> str:
        return fitted(self.table + PARTITIONED)

    @property
    def partitioned(self) -> sql.Identifier:
        """The new table before cutover."""
        return self._relation(self.partitioned_name)

    @property
    def retired_name(self) -> str:
        return fitted(self.table + RETIRED)

    @property
    def retired(self) -> sql.Identifier:
        """The old table after cutover."""
        return self._relation(self.retired_name)

    def partition_name(self, month: date) -> str:
        return fitted(f"{self.table}_{month:%Y%m}")

    @property
    def default_name(self) -> str:
        return fitted(f"{self.table}_default")

    def partition(self, name: str) -> sql.Identifier:
        return self._relation(name)

    @property
    def log_name(self) -> str:
        return fitted(f"{self.schema}_{self.table}_changes")

    @property
    def log(self) -> sql.Identifier:
        """The change log: keys written to months that are not live."""
        return sql.Identifier(SCHEMA, self.log_name)

    @property
    def loading(self) -> sql.Identifier:
        """What sorts rows into their months while several are loaded at once."""
        return sql.Identifier(SCHEMA, fitted(f"{self.schema}_{self.table}_loading"))

    def function_name(self, direction: str, operation: str) -> str:
        return fitted(f"{self.schema}_{self.table}_{direction}_{operation}")

    def function(self, direction: str, operation: str) -> sql.Identifier:
        """The trigger function; direction is `forward` (old to new) or `reverse`."""
        return sql.Identifier(SCHEMA, self.function_name(direction, operation))
