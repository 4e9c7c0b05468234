"""SQL collected beforehand, to be sent in one message while everybody waits for a lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg import sql


class Executes(Protocol):
    """What statements without parameters and results are given to: a connection or a script."""

    def execute(self, query: sql.Composed | sql.SQL, /) -> Any: ...


@dataclass
class Script:
    """Statements in order."""

    statements: list[sql.Composable] = field(default_factory=list[sql.Composable])

    def execute(self, query: sql.Composed | sql.SQL, /) -> None:
        """Put a statement at the end."""
        self.statements.append(query)

    def run(self, connection: psycopg.Connection) -> None:
        """Send all in one message, in the caller's transaction."""
        if self.statements:
            connection.execute(sql.SQL(";\n").join(self.statements))
