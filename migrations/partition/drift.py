"""What of the table's definition changed since its copy was made."""

from __future__ import annotations

import psycopg

from migrations.partition.catalogue import Table

# Of the columns and checks, what a copy has alike; a line each, which begins with its name.
_DEFINITION = """
SELECT format('default of %%s: %%s', a.attname, pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(oid)s
UNION ALL
SELECT format('NOT NULL of %%s', attname) FROM pg_attribute
WHERE attrelid = %(oid)s AND attnum > 0 AND attnotnull AND attname <> %(key)s
UNION ALL
SELECT format('identity of %%s: %%s', attname, attidentity) FROM pg_attribute
WHERE attrelid = %(oid)s AND attidentity <> ''
UNION ALL
SELECT format('collation of %%s: %%s', attname, attcollation::regcollation) FROM pg_attribute
WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND attcollation <> 0
UNION ALL
SELECT format('constraint %%s: %%s', conname,
    regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', ''))
FROM pg_constraint WHERE conrelid = %(oid)s AND contype = 'c'
"""


def drifted(connection: psycopg.Connection, table: Table, copy: Table, key: str) -> list[str]:
    """Return the names of what one has and the other has not, or has otherwise.

    The columns' names and types are taken to be the same. `key` is the partition key, which only a
    copy demands.
    """
    of_table, of_copy = (
        {row[0] for row in connection.execute(_DEFINITION, {"oid": each.oid, "key": key})}
        for each in (table, copy)
    )
    return sorted({line.partition(": ")[0] for line in of_table ^ of_copy})
