"""A table's definition as Postgres's catalogue has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

# Types without a hash function are compared by their text.
_UNHASHABLE = (
    "json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "tsvector",
    "tsquery", "bit", "bit varying", "money", "txid_snapshot", "pg_snapshot",
)  # fmt: skip

_TABLE = """
SELECT c.oid::integer AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    c.relpersistence::text AS persistence, c.relispartition AS is_partition,
    pg_get_userbyid(c.relowner) AS owner, c.relreplident::text AS replica_identity,
    c.relrowsecurity AS row_security, c.relforcerowsecurity AS forces_row_security,
    a.amname AS access_method,
    greatest(c.reltuples, 0)::bigint AS rows_estimated, pg_table_size(c.oid) AS bytes,
    pg_total_relation_size(c.oid) AS total_bytes,
    EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid) AS has_children,
    EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid) AS is_child,
    coalesce(c.reloptions, '{}') || coalesce(
        (SELECT array_agg('toast.' || o) FROM unnest(t.reloptions) AS o), '{}') AS options,
    s.spcname AS tablespace, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_am AS a ON a.oid = c.relam
LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace
WHERE n.nspname = %s AND c.relname = %s
"""

_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), NULL) AS base_type,
    a.attnotnull AS not_null, a.attgenerated::text AS generated, a.attidentity::text AS identity,
    nullif(a.attstattarget, -1) AS statistics, coalesce(a.attoptions, '{}') AS options,
    coalesce((SELECT c.collisdeterministic FROM pg_collation AS c WHERE c.oid = a.attcollation),
        true) AS is_deterministic
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_INDEXES = """
SELECT c.relname AS name, i.indisunique AS is_unique, i.indisprimary AS is_primary,
    i.indisexclusion AS is_exclusion, i.indisvalid AS is_valid, con.conname AS constraint_name,
    con.condeferrable AS is_deferrable, obj_description(i.indexrelid, 'pg_class') AS comment,
    i.indpred IS NULL AND am.amname = 'btree' AS is_plain,
    i.indisreplident AS is_replica_identity,
    pg_get_constraintdef(con.oid) AS constraint_definition,
    coalesce(c.reloptions, '{}') AS options,
    substr(pg_get_indexdef(i.indexrelid), length(format('CREATE %%sINDEX %%I ON %%s%%I.%%I ',
        CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, c.relname,
        CASE WHEN r.relkind = 'p' THEN 'ONLY ' ELSE '' END, n.nspname, r.relname)) + 1
    ) AS definition,
    ARRAY(SELECT coalesce(a.attname::text, '')
        FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
        LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
    ARRAY(SELECT a.attname::text
        FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE k.place > i.indnkeyatts ORDER BY k.place) AS included
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS am ON am.oid = c.relam
JOIN pg_class AS r ON r.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
LEFT JOIN pg_constraint AS con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
    AND con.contype IN ('p', 'u', 'x')
WHERE i.indrelid = %s ORDER BY i.indisprimary DESC, c.relname
"""

_FOREIGN_KEYS = """
SELECT con.conname AS name, pg_get_constraintdef(con.oid) AS definition,
    n.nspname AS referenced_schema, c.relname AS referenced_table, con.convalidated AS is_validated,
    con.condeferrable AS is_deferrable, con.condeferred AS is_deferred
FROM pg_constraint AS con JOIN pg_class AS c ON c.oid = con.confrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE con.conrelid = %s AND con.contype = 'f' AND con.conparentid = 0 ORDER BY con.conname
"""

_TRIGGERS = """
SELECT tgname AS name, pg_get_triggerdef(oid) AS definition, tgenabled::text AS enabled,
    tgconstraint <> 0 AS is_constraint,
    tgtype & 1 = 1 AND (tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL) AS is_row_with_tables,
    tgtype & 3 = 3 AS is_before_row
FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal AND tgname NOT IN (
    'partitioning_insert', 'partitioning_update', 'partitioning_delete', 'partitioning_truncate')
ORDER BY tgname
"""

_VIEWS = """
SELECT DISTINCT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    pg_get_userbyid(c.relowner) AS owner, pg_get_viewdef(c.oid) AS definition,
    coalesce(c.reloptions, '{}') AS options,
    EXISTS (SELECT FROM pg_depend AS p JOIN pg_constraint AS k ON k.oid = p.refobjid
        WHERE p.classid = 'pg_rewrite'::regclass AND p.objid = r.oid
            AND p.refclassid = 'pg_constraint'::regclass AND k.conrelid = d.refobjid
    ) AS needs_constraint
FROM pg_depend AS d
JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class AS c ON c.oid = r.ev_class
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND c.oid <> d.refobjid
    AND c.relkind IN ('v', 'm')
ORDER BY 1, 2
"""

_SEQUENCES = """
SELECT n.nspname AS schema, c.relname AS name, a.attname AS column, d.deptype = 'i' AS is_identity
FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = %s AND d.deptype IN ('a', 'i') ORDER BY 1, 2
"""

_PUBLICATIONS = """
SELECT p.pubname AS name, pg_get_userbyid(p.pubowner) AS owner,
    r.prqual IS NOT NULL OR r.prattrs IS NOT NULL AS is_filtered, p.pubviaroot AS via_root
FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
WHERE r.prrelid = %s ORDER BY 1
"""

_GRANTS = """
SELECT g.privilege_type AS privilege, CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee) END
    AS grantee, g.is_grantable AS grantable, g.column_name AS column
FROM (
    SELECT (aclexplode(relacl)).*, NULL::name AS column_name, relowner FROM pg_class WHERE oid = %s
    UNION ALL
    SELECT (aclexplode(a.attacl)).*, a.attname, c.relowner FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid WHERE a.attrelid = %s AND NOT a.attisdropped
) AS g
WHERE g.grantee <> g.relowner ORDER BY 4 NULLS FIRST, 2 NULLS FIRST, 1
"""
_POLICIES = """
SELECT polname AS name, polpermissive AS permissive, CASE polcmd WHEN 'r' THEN 'SELECT'
    WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END AS command,
    ARRAY(SELECT CASE WHEN r.oid <> 0 THEN pg_get_userbyid(r.oid)::text END
        FROM unnest(polroles) AS r (oid)) AS roles,
    pg_get_expr(polqual, polrelid) AS "using", pg_get_expr(polwithcheck, polrelid) AS "check"
FROM pg_policy WHERE polrelid = %s ORDER BY polname
"""

# Whatever of the above changes leaves another row version behind; statistics do not.
_VERSION = """
WITH tables AS (SELECT to_regclass(n)::oid AS oid FROM unnest(%s::text[]) AS n),
views AS (
    SELECT r.oid AS rule, r.ev_class FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid IN (TABLE tables)
)
SELECT md5(string_agg(v, ' ' ORDER BY v)) FROM (
    SELECT format('c%%s/%%s', oid, xmin) FROM pg_class WHERE oid IN (TABLE tables)
        OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (TABLE tables))
        OR oid IN (SELECT ev_class FROM views)
    UNION ALL SELECT format('a%%s.%%s/%%s', attrelid, attnum, xmin) FROM pg_attribute
        WHERE attrelid IN (TABLE tables)
    UNION ALL SELECT format('i%%s/%%s', indexrelid, xmin) FROM pg_index
        WHERE indrelid IN (TABLE tables)
    UNION ALL SELECT format('k%%s/%%s', oid, xmin) FROM pg_constraint
        WHERE conrelid IN (TABLE tables)
    UNION ALL SELECT format('t%%s/%%s', oid, xmin) FROM pg_trigger
        WHERE tgrelid IN (TABLE tables)
    UNION ALL SELECT format('r%%s/%%s', oid, xmin) FROM pg_rewrite
        WHERE oid IN (SELECT rule FROM views)
    UNION ALL SELECT format('p%%s/%%s', oid, xmin) FROM pg_publication_rel
        WHERE prrelid IN (TABLE tables)
    UNION ALL SELECT format('s%%s/%%s', oid, xmin) FROM pg_policy
        WHERE polrelid IN (TABLE tables)
    UNION ALL SELECT format('h%%s/%%s', inhrelid, xmin) FROM pg_inherits
        WHERE inhparent IN (TABLE tables)
) AS versions (v)
"""


@dataclass(frozen=True)
class Column:
    """One column; `type` is as in DDL, `base_type` without modifiers and domains."""

    name: str
    type: str
    base_type: str
    not_null: bool
    generated: str
    identity: str
    statistics: int | None
    options: list[str]
    is_deterministic: bool
    """Whether texts that are equal look alike."""

    @property
    def is_hashable(self) -> bool:
        return self.base_type.removesuffix("[]") not in _UNHASHABLE


@dataclass(frozen=True)
class Index:
    """One index; `definition` begins with USING, `columns` has '' for an expression."""

    name: str
    is_unique: bool
    is_primary: bool
    is_exclusion: bool
    is_valid: bool
    constraint_name: str | None
    is_deferrable: bool | None
    comment: str | None
    is_plain: bool
    is_replica_identity: bool
    constraint_definition: str | None
    """Without the options of its index, unlike `definition`."""
    options: list[str]
    definition: str
    columns: list[str]
    included: list[str]


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key of the table."""

    name: str
    definition: str
    referenced_schema: str
    referenced_table: str
    is_validated: bool
    is_deferrable: bool
    is_deferred: bool


@dataclass(frozen=True)
class Trigger:
    """One trigger of the application's; `enabled` is O, D, R or A as in pg_trigger."""

    name: str
    definition: str
    enabled: str
    is_constraint: bool
    is_row_with_tables: bool
    is_before_row: bool


@dataclass(frozen=True)
class View:
    """One view that reads the table; `kind` is v, or m for a materialized one."""

    schema: str
    name: str
    kind: str
    owner: str
    definition: str
    options: list[str]
    needs_constraint: bool


@dataclass(frozen=True)
class Sequence:
    """One sequence that belongs to a column."""

    schema: str
    name: str
    column: str
    is_identity: bool


@dataclass(frozen=True)
class Publication:
    """One publication that lists the table."""

    name: str
    owner: str
    is_filtered: bool
    via_root: bool


@dataclass(frozen=True)
class Grant:
    """One privilege of somebody but the owner; grantee None is PUBLIC."""

    privilege: str
    grantee: str | None
    grantable: bool
    column: str | None


@dataclass(frozen=True)
class Policy:
    """One policy of row security; `command` is the keyword, roles None is PUBLIC."""

    name: str
    permissive: bool
    command: str
    roles: list[str | None]
    using: str | None
    check: str | None


@dataclass(frozen=True)
class Table:
    """All of a table that the engine carries over or looks at."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    is_partition: bool
    owner: str
    replica_identity: str
    row_security: bool
    forces_row_security: bool
    access_method: str | None
    rows_estimated: int
    bytes: int
    total_bytes: int
    """With the indexes."""
    has_children: bool
    is_child: bool
    options: list[str]
    tablespace: str | None
    comment: str | None
    columns: list[Column]
    indexes: list[Index]
    foreign_keys: list[ForeignKey]
    triggers: list[Trigger]
    views: list[View]
    sequences: list[Sequence]
    publications: list[Publication]
    grants: list[Grant]
    policies: list[Policy]

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def primary_key(self) -> Index | None:
        return next((index for index in self.indexes if index.is_primary), None)

    @property
    def stored_columns(self) -> list[str]:
        """The columns that a row is inserted with: all but the generated ones."""
        return [column.name for column in self.columns if not column.generated]

    @property
    def shape(self) -> list[tuple[str, str, str]]:
        """What two tables must have in common to hold the same rows."""
        return [(column.name, column.type, column.generated) for column in self.columns]


def read_table(connection: psycopg.Connection, schema: str, name: str) -> Table | None:
    """Return the definition of a relation, None if there is none of that name."""

    def rows(query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    found = rows(_TABLE, schema, name)
    if not found:
        return None
    oid = found[0]["oid"]
    return Table(
        **found[0],
        columns=[Column(**row) for row in rows(_COLUMNS, oid)],
        indexes=[Index(**row) for row in rows(_INDEXES, oid)],
        foreign_keys=[ForeignKey(**row) for row in rows(_FOREIGN_KEYS, oid)],
        triggers=[Trigger(**row) for row in rows(_TRIGGERS, oid)],
        views=[View(**row) for row in rows(_VIEWS, oid)],
        sequences=[Sequence(**row) for row in rows(_SEQUENCES, oid)],
        publications=[Publication(**row) for row in rows(_PUBLICATIONS, oid)],
        grants=[Grant(**row) for row in rows(_GRANTS, oid, oid)],
        policies=[Policy(**row) for row in rows(_POLICIES, oid)],
    )


def grants_on(connection: psycopg.Connection, relation: sql.Identifier) -> list[Grant]:
    """Return the privileges of others than its owner on a relation."""
    with connection.cursor(row_factory=class_row(Grant)) as cursor:
        oid = "SELECT %s::regclass::oid"
        row = connection.execute(oid, [relation.as_string()]).fetchone()
        assert row is not None  # noqa: S101 -- a value is a row
        return cursor.execute(_GRANTS, [row[0], row[0]]).fetchall()


def version(connection: psycopg.Connection, *tables: str) -> str:
    """Return what changes whenever a definition does that `read_table` reads, in one statement."""
    row = connection.execute(_VERSION, [list(tables)]).fetchone()
    return str(row[0]) if row else ""
