"""Tables between Postgres and numpy by binary COPY: no Python object per value.

The format is fixed: after a header of 19 bytes each row is its number of fields and, per field, its
length and value, all big-endian; -1 in place of a number of fields ends the data. With columns of
fixed size and no NULLs all rows are equally long, so they are a structured array as they stand.
"""

from __future__ import annotations

from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"

Columns = dict[str, npt.NDArray[Any]]


def _layout(types: dict[str, str]) -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in types.items():
        fields += [(f"{name} length", ">i4"), (name, f">{kind}")]
    return np.dtype(fields)


def fetch(connection: psycopg.Connection, query: sql.Composable, types: dict[str, str]) -> Columns:
    """Return the columns of a query, each named and typed as numpy writes it ("i4", "f8").

    The query's columns must have just these types and contain no NULL; raises ValueError if not.
    """
    layout = _layout(types)
    data = bytearray()
    with connection.cursor() as cursor:
        copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
        with cursor.copy(copy) as blocks:
            for block in blocks:
                data += block
        rows = cursor.rowcount
    if len(data) != len(_HEADER) + rows * layout.itemsize + len(_TRAILER):
        raise ValueError(f"the columns are not {types}, or some value is NULL")
    table = np.frombuffer(data, layout, rows, len(_HEADER))
    return {name: table[name].astype(kind) for name, kind in types.items()}


def unpack(cursor: psycopg.Cursor[tuple[bytes]], types: dict[str, str]) -> Columns:
    """Return the columns of rows that were packed into the blobs of a query's one column.

    Packed by `int4send(...) || float8send(...)`, in the order of the types.
    """
    layout = np.dtype([(name, f">{kind}") for name, kind in types.items()])
    blobs = [np.frombuffer(row[0], layout) for row in cursor]
    table = np.concatenate([np.zeros(0, layout), *blobs])
    return {name: table[name].astype(kind) for name, kind in types.items()}


def store(
    connection: psycopg.Connection, table: LiteralString, columns: Columns, types: dict[str, str]
) -> None:
    """Append the columns to a table that has just these, in this order."""
    rows = np.zeros(len(next(iter(columns.values()))), _layout(types))
    rows["fields"] = len(types)
    for name, kind in types.items():
        rows[f"{name} length"] = np.dtype(kind).itemsize
        rows[name] = columns[name]
    copy = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(copy) as blocks:
        blocks.write(_HEADER + rows.tobytes() + _TRAILER)
