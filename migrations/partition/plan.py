"""What will be done, and every reason not to. Nothing here changes anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import calendar
from migrations.partition.catalogue import Index, Table, read_table
from migrations.partition.engine import Engine
from migrations.partition.errors import PlanRefused, Refused
from migrations.partition.names import Names
from migrations.partition.phases import Phase
from migrations.partition.spec import Spec
from migrations.partition.statements import phase_sql, raw

KEY_TYPES = ("timestamp without time zone", "timestamp with time zone", "date")
MOST_MONTHS = 1200
# Measured on two cores with rows shaped like review_logs, of 300 bytes (DESIGN.md); whichever of
# rows and bytes takes longer. For the estimate alone.
_ROWS_PER_SECOND = 150_000
_BYTES_PER_SECOND = 45_000_000
_VERIFIED_ROWS_PER_SECOND = 1_000_000
DISK_SHARE = 1.1
"""What the new table takes, as a share of the old one with its indexes."""

_OUR_COLUMNS = ("is_new", "month", "seq")

_POINTING_HERE = """
SELECT con.conrelid::regclass::text, con.conname FROM pg_constraint AS con
WHERE con.confrelid = %s AND con.contype = 'f' AND con.conparentid = 0 ORDER BY 1, 2
"""
_UNVALIDATED = """
SELECT conname FROM pg_constraint WHERE conrelid = %s AND NOT convalidated ORDER BY 1
"""
_NO_INHERIT = """
SELECT conname FROM pg_constraint
WHERE conrelid = %s AND contype = 'c' AND connoinherit ORDER BY 1
"""
_RULES = "SELECT rulename FROM pg_rewrite WHERE ev_class = %s AND rulename <> '_RETURN' ORDER BY 1"
_SUBSCRIPTIONS = "SELECT count(*) FROM pg_subscription_rel WHERE srrelid = %s"
_REPLICA_ROLES = """
SELECT coalesce(r.rolname, 'all roles') FROM pg_db_role_setting AS s
LEFT JOIN pg_roles AS r ON r.oid = s.setrole
CROSS JOIN unnest(s.setconfig) AS setting
WHERE setting LIKE 'session_replication_role=%%' AND setting NOT LIKE '%%=origin' ORDER BY 1
"""
# Functions with bodies parsed beforehand, rules of others that write to it, and whatever uses the
# table's row type.
_BOUND = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND d.deptype = 'n'
    AND d.classid = 'pg_proc'::regclass
UNION
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d
JOIN pg_policy AS p ON p.oid = d.objid
WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = %(oid)s AND p.polrelid <> d.refobjid
UNION
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d
JOIN pg_rewrite AS r ON r.oid = d.objid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = %(oid)s AND r.ev_class <> d.refobjid AND r.rulename <> '_RETURN'
UNION
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend AS d
JOIN pg_class AS c ON c.oid = %(oid)s
JOIN pg_type AS t ON t.oid = c.reltype OR t.typelem = c.reltype AND t.typcategory = 'A'
WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid = t.oid AND d.deptype = 'n'
ORDER BY 1
"""
# Functions that name it in their text find the new table by themselves.
_MENTIONS = """
SELECT format('function %%s names it in its text, and will mean the new table',
    p.oid::regprocedure) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'partitioning')
    AND p.prosrc ~ %(word)s
UNION ALL
SELECT format('publication %%s publishes %%s, and so the new table', pubname,
    CASE WHEN puballtables THEN 'all tables' ELSE 'all tables of its schema' END)
FROM pg_publication AS p
WHERE puballtables OR EXISTS (SELECT FROM pg_publication_namespace AS s JOIN pg_class AS c
    ON c.relnamespace = s.pnnspid WHERE s.pnpubid = p.oid AND c.oid = %(oid)s)
UNION ALL
SELECT format('replication slot %%s (%%s) reads the copying too, and keeps its write-ahead log'
    ' until it has', slot_name, CASE WHEN active THEN 'active' ELSE 'not active' END)
FROM pg_replication_slots WHERE database IS NULL OR database = current_database()
"""
_PRIVILEGES = """
SELECT CASE WHEN c.relowner <> r.oid THEN format(
        'role %%s does not own it, %%s does: connect as the owner, or add'
        ' ?options=-crole%%%%3D%%s to DATABASE_URL', current_user, pg_get_userbyid(c.relowner),
        pg_get_userbyid(c.relowner)) END,
    CASE WHEN NOT has_schema_privilege(c.relnamespace, 'CREATE')
        THEN format('role %%s may not create tables in its schema: GRANT CREATE ON SCHEMA',
            current_user) END,
    CASE WHEN to_regnamespace('partitioning') IS NULL
        AND NOT has_database_privilege(current_database(), 'CREATE')
        THEN format('role %%s may not create the schema partitioning: GRANT CREATE ON DATABASE',
            current_user) END,
    CASE WHEN NOT coalesce(has_schema_privilege(to_regnamespace('partitioning'), 'CREATE'), true)
        THEN format('role %%s may not create tables in the schema partitioning', current_user) END,
    CASE WHEN NOT has_database_privilege(current_database(), 'TEMP')
        THEN format('role %%s may not create temporary tables: GRANT TEMP ON DATABASE',
            current_user) END
FROM pg_class AS c, pg_roles AS r WHERE c.oid = %s AND r.rolname = current_user
"""


@dataclass(frozen=True)
class Plan:
    """The table as it is, what will be made of it, and what speaks against it."""

    table: Table
    months: list[date]
    reasons: list[str]
    """Why it is refused; empty if it is not."""
    warnings: list[str]
    """What will be different afterwards."""


def make_plan(engine: Engine) -> Plan:
    """Look at the table. Raises Refused if there is no such table."""
    connection, spec, names = engine.connection, engine.spec, engine.names
    table = read_table(connection, names.schema, names.table)
    if table is None:
        raise Refused(f"there is no table {spec.table} in this database")
    if table.kind == "p":
        raise PlanRefused(spec.table, ["it is partitioned already"])
    if table.kind != "r":
        raise PlanRefused(spec.table, ["it is not an ordinary table"])
    months, key_reasons = _key(connection, spec, table)
    reasons = [
        *_kind(table),
        *key_reasons,
        *_columns(connection, spec, table),
        *_constraints(connection, spec, table),
        *_dependents(connection, table),
        *_row_security(connection, table),
        *_disk(engine, table),
        *_permissions(connection, table),
        *_collisions(connection, names, table, months),
    ]
    return Plan(table, months, reasons, _warnings(spec, table))


def refuse_if_unsuitable(engine: Engine) -> Plan:
    """Return the plan. Raises PlanRefused with all reasons if there are any."""
    plan = make_plan(engine)
    if plan.reasons:
        raise PlanRefused(engine.spec.table, plan.reasons)
    return plan


def describe(engine: Engine, plan: Plan) -> str:
    """Return the plan as text: estimates, warnings, and the SQL of all phases."""
    table = plan.table
    lines = [
        f"{engine.spec.table}: about {table.rows_estimated:,} rows, {table.bytes / 1e6:,.0f} MB,",
        f"by month of {engine.spec.key}: {len(plan.months)} partitions"
        + (f" from {plan.months[0]:%Y-%m} through {plan.months[-1]:%Y-%m}" if plan.months else ""),
        f"needs about {table.total_bytes * DISK_SHARE / 1e6:,.0f} MB of disk until retire"
        + (
            f", of {engine.options.disk_free / 1e6:,.0f} MB free"
            if engine.options.disk_free is not None
            else " (how much is free no SQL tells: give it as --disk-free)"
        )
        + ", and as much write-ahead log in passing,",
        f"about {_backfill_seconds(table):,} s for the backfill, and"
        f" {max(1, 2 * table.rows_estimated // _VERIFIED_ROWS_PER_SECOND):,} s to verify, at rates"
        " measured on two cores.",
    ]
    lines += [f"Depends on it: {dependent}." for dependent in _mentions(engine, table)]
    lines += [f"Note: {warning}." for warning in plan.warnings]
    for phase in Phase:
        lines += ["", f"-- {phase.upper()} " + "-" * 60, phase_sql(engine.spec, phase)]
    return "\n".join(lines)


def _backfill_seconds(table: Table) -> int:
    return max(1, table.rows_estimated // _ROWS_PER_SECOND, table.total_bytes // _BYTES_PER_SECOND)


def _mentions(engine: Engine, table: Table) -> list[str]:
    """Return what uses the table without being bound to it, and who reads its changes."""
    rows = engine.connection.execute(
        _MENTIONS, {"word": rf"\m{re.escape(table.name)}\M", "oid": table.oid}
    ).fetchall()
    return [row[0] for row in rows]


def _kind(table: Table) -> list[str]:
    checks = [
        (table.is_partition or table.is_child, "it is a child or partition of another table"),
        (table.has_children, "other tables inherit from it"),
        (table.persistence != "p", "it is temporary or unlogged"),
        (table.access_method != "heap", f"its access method is {table.access_method}, not heap"),
    ]
    return [reason for applies, reason in checks if applies]


def _columns(connection: psycopg.Connection, spec: Spec, table: Table) -> list[str]:
    """Return what is wrong with other columns."""
    primary_key = table.primary_key
    keys = primary_key.columns if primary_key else []
    reasons = [
        f"column {name} of the primary key has a name that the log of changes uses: rename it"
        for name in keys
        if name in _OUR_COLUMNS
    ]
    if spec.key == "is_new":
        reasons.append("column is_new has a name that the triggers use: rename it")
    for column in table.columns:
        if not column.is_hashable:
            continue  # Compared by its text.
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("SELECT hash_record_extended(ROW(NULL::{}), 0)").format(
                        raw(column.type)
                    )
                )
        except (psycopg.errors.NotNullViolation, psycopg.errors.CheckViolation):
            continue  # A domain without NULL; what it is of is looked at by verify.
        except psycopg.errors.UndefinedFunction:
            reasons.append(
                f"column {column.name} is {column.type}, which has no hash function: verify could"
                " not compare it"
            )
    return reasons


def _key(connection: psycopg.Connection, spec: Spec, table: Table) -> tuple[list[date], list[str]]:
    """Return the months needed, and what is wrong with the key and its values."""
    column = table.column(spec.key)
    if column is None:
        known = ", ".join(column.name for column in table.columns)
        return [], [f"it has no column {spec.key}; it has {known}"]
    if column.base_type not in KEY_TYPES:
        return [], [f"{spec.key} is {column.type}: takes a date or a timestamp"]
    if column.generated:
        return [], [f"{spec.key} is a generated column, which no partition key can be"]
    reasons: list[str] = []
    key = sql.Identifier(spec.key)
    relation = sql.Identifier(table.schema, table.name)
    try:
        found = connection.execute(
            sql.SQL(
                "SELECT to_char(min({key}), 'YYYY-MM-DD'), to_char(max({key}), 'YYYY-MM-DD'),"
                " min({key})::text, max({key})::text,"
                " min({key}) < {earliest}, max({key}) >= {latest} FROM {relation}"
            ).format(
                key=key,
                relation=relation,
                earliest=calendar.EARLIEST,
                latest=calendar.plus(calendar.latest_sane(spec.ahead), 1),
            )
        ).fetchone()
        nulls = connection.execute(
            sql.SQL(
                "SELECT count(*) FROM (SELECT FROM {} WHERE {} IS NULL LIMIT 1000000) AS nulls"
            ).format(relation, key)
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return [], ["its rows may not be read"]
    assert found is not None and nulls is not None  # noqa: PT018, S101 -- aggregates give a row
    if nulls[0]:
        reasons.append(
            f"{nulls[0]:,} rows have no {spec.key}: give them one"
            " (the new primary key needs it), or delete them"
        )
    first, last, first_text, last_text, too_early, too_late = found
    if too_early:
        reasons.append(
            f"{spec.key} begins at {first_text}, before {calendar.EARLIEST}: a mistake? Correct it"
        )
    if too_late:
        latest = calendar.latest_sane(spec.ahead)
        reasons.append(
            f"{spec.key} goes up to {last_text}, after {latest:%Y-%m}: a mistake? Correct it"
        )
    if too_early or too_late:
        return [], reasons
    now = calendar.current_month()
    begin = min(now, date.fromisoformat(first).replace(day=1)) if first else now
    end = calendar.plus(now, spec.ahead)
    if last:
        end = max(end, date.fromisoformat(last).replace(day=1))
    months = calendar.through(begin, end)
    if len(months) > MOST_MONTHS:
        reasons.append(f"it would have {len(months)} partitions, more than {MOST_MONTHS}")
    return months, reasons


def _constraints(connection: psycopg.Connection, spec: Spec, table: Table) -> list[str]:
    reasons: list[str] = []
    if table.primary_key is None:
        reasons.append("it has no primary key, by which changed rows are found")
    for index in table.indexes:
        reasons += _index(spec, index)
    reasons += _widen(spec, table)
    reasons += [
        f"foreign key {name} of {referencing} points at it: a partitioned table's primary key"
        f" includes {spec.key}, so drop the foreign key, or keep it by a trigger"
        for referencing, name in connection.execute(_POINTING_HERE, [table.oid])
    ]
    reasons += [
        f"constraint {name} is not validated: ALTER TABLE ... VALIDATE CONSTRAINT it first"
        for (name,) in connection.execute(_UNVALIDATED, [table.oid])
    ]
    reasons += [
        f"check {name} is NO INHERIT, which a partitioned table cannot have"
        for (name,) in connection.execute(_NO_INHERIT, [table.oid])
    ]
    return reasons


def _widen(spec: Spec, table: Table) -> list[str]:
    """Return what is wrong with the names in `widen`."""
    reasons: list[str] = []
    indexes = {index.name: index for index in table.indexes}
    for name in spec.widen:
        index = indexes.get(name)
        if index is None:
            reasons.append(f"`widen` names {name}, which is no index or constraint of it")
        elif index.is_primary or not index.is_unique:
            reasons.append(f"`widen` names {name}, which is no unique constraint or index")
        elif spec.key in [*index.columns, *index.included]:
            reasons.append(f"`widen` names {name}, which has {spec.key} already")
    return reasons


def _row_security(connection: psycopg.Connection, table: Table) -> list[str]:
    """Return why row security would hide rows from the engine, or be lost."""
    reasons: list[str] = []
    row = connection.execute(
        "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if table.row_security and table.forces_row_security and row and not row[0]:
        reasons.append(
            "its row security is forced upon its owner, who so may not see all rows:"
            " ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or use a role with BYPASSRLS"
        )
    return reasons


def _disk(engine: Engine, table: Table) -> list[str]:
    free = engine.options.disk_free
    needed = int(table.total_bytes * DISK_SHARE)
    if free is None or needed <= free:
        return []
    return [
        f"it needs about {needed / 1e6:,.0f} MB of disk until retire, and --disk-free allows"
        f" {free / 1e6:,.0f} MB"
    ]


def _index(spec: Spec, index: Index) -> list[str]:
    if index.is_exclusion:
        return [
            f"exclusion constraint {index.name} is not supported: a partitioned table could keep it"
            " within each month only; drop it, or keep it by a trigger"
        ]
    if index.is_deferrable:
        return [f"constraint {index.name} is deferrable, which is not supported"]
    if (
        index.is_unique
        and not index.is_primary
        and spec.key not in index.columns
        and index.name not in spec.widen
    ):
        return [
            f"unique index {index.name} lacks {spec.key}, which every unique index of a"
            f' partitioned table must include: drop it, or add the key by widen = ["{index.name}"]'
            " in the spec"
        ]
    if index.is_unique and "" in index.columns:
        return [f"unique index {index.name} is on an expression: not possible when partitioned"]
    return []


def _dependents(connection: psycopg.Connection, table: Table) -> list[str]:
    reasons: list[str] = []
    for view in table.views:
        name = f"{view.schema}.{view.name}"
        if view.kind == "m":
            reasons.append(
                f"materialized view {name} reads it, and cannot be pointed anew without"
                " being filled anew: drop it, and recreate it after cutover"
            )
        elif view.owner != table.owner:
            reasons.append(f"view {name} belongs to {view.owner}, so it cannot be pointed anew")
        elif view.needs_constraint:
            reasons.append(f"view {name} needs its primary key as it is (GROUP BY)")
    reasons += [
        f"rule {name} is on it: not supported"
        for (name,) in connection.execute(_RULES, [table.oid])
    ]
    reasons += [
        f"{what} is bound to it or to its row type: not supported"
        for (what,) in connection.execute(_BOUND, {"oid": table.oid})
    ]
    for trigger in table.triggers:
        if trigger.is_constraint:
            reasons.append(f"trigger {trigger.name} is a constraint trigger: not supported")
        elif trigger.is_row_with_tables:
            reasons.append(
                f"trigger {trigger.name} is a row trigger with transition tables,"
                " which a partitioned table cannot have"
            )
    for publication in table.publications:
        if publication.owner != table.owner:
            reasons.append(f"publication {publication.name} belongs to {publication.owner}")
        if publication.is_filtered:
            reasons.append(f"publication {publication.name} filters its rows or columns")
    (subscribed,) = connection.execute(_SUBSCRIPTIONS, [table.oid]).fetchone() or (0,)
    if subscribed:
        reasons.append("a subscription writes to it, past statement triggers: drop it first")
    return reasons


def _permissions(connection: psycopg.Connection, table: Table) -> list[str]:
    reasons = [
        reason
        for reason in connection.execute(_PRIVILEGES, [table.oid]).fetchone() or ()
        if reason is not None
    ]
    reasons += [
        f"session_replication_role is set for {role}: its writes could pass triggers by"
        for (role,) in connection.execute(_REPLICA_ROLES)
    ]
    role = connection.execute("SHOW session_replication_role").fetchone()
    if role and role[0] != "origin":
        reasons.append(f"session_replication_role is {role[0]}: takes origin")
    return reasons


def _collisions(
    connection: psycopg.Connection, names: Names, table: Table, months: list[date]
) -> list[str]:
    wanted = [names.partitioned_name, names.retired_name, names.default_name]
    wanted += [names.partition_name(month) for month in months]
    found = connection.execute(
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = ANY(%s) ORDER BY 1",
        [table.schema, wanted],
    ).fetchall()
    return [f"{table.schema}.{name} exists already: rename or drop it" for (name,) in found]


def _warnings(spec: Spec, table: Table) -> list[str]:
    warnings: list[str] = []
    primary_key = table.primary_key
    if primary_key and spec.key not in primary_key.columns:
        columns = ", ".join(primary_key.columns)
        warnings.append(
            f"the primary key becomes ({columns}, {spec.key}): after retire ({columns}) alone is"
            f" not kept unique, and from cutover on ON CONFLICT ({columns}) has to become"
            f" ON CONFLICT ({columns}, {spec.key}), ON CONFLICT DO NOTHING, or MERGE"
        )
    warnings.append(
        "from cutover on an update that moves a row to another month makes another one that waits"
        " for the same row fail (40001), as with any partitioned table: try it again"
    )
    column = table.column(spec.key)
    if column and not column.not_null:
        warnings.append(
            f"rows without {spec.key} are refused from cutover on; cutover waits until there are"
            " none"
        )
    warnings += [
        f"{name} is widened by {spec.key}: its columns alone are not kept unique after retire"
        for name in spec.widen
    ]
    if not spec.default_partition:
        warnings.append(
            f"from cutover on a row later than {spec.ahead} months after the current one, or"
            " before the first partition, is an error"
        )
    if column and not has_key_index(table, spec.key):
        warnings.append(
            f"no index leads with {spec.key}: backfill loads all months in one pass over the table,"
            " and the first goes live after it"
        )
    warnings += [
        f"publication {publication.name} publishes partitions under their own names:"
        " set publish_via_partition_root"
        for publication in table.publications
        if not publication.via_root
    ]
    warnings += [
        f"trigger {trigger.name} fires before each row, and from cutover on on the partition that"
        f" was chosen by then: it must not set {spec.key}"
        for trigger in table.triggers
        if trigger.is_before_row
    ]
    warnings += [
        f"view {view.schema}.{view.name} is pointed at the new table at cutover"
        for view in table.views
    ]
    warnings += [
        f"index {index.name} is invalid, and is left out"
        for index in table.indexes
        if not index.is_valid
    ]
    return warnings


def has_key_index(table: Table, key: str) -> bool:
    """Tell whether an index finds the rows of a month."""
    return any(
        index.is_valid and index.is_plain and index.columns[:1] == [key] for index in table.indexes
    )


def reasons_since(connection: psycopg.Connection, spec: Spec, table: Table) -> list[str]:
    """Return the reasons to refuse that may have come up since prepare."""
    return [*_constraints(connection, spec, table), *_dependents(connection, table)]


def same_shape(engine: Engine, original: str, copy: str) -> tuple[Table, Table]:
    """Return the old and the new table. Raises Refused if their columns differ by now."""
    schema = engine.names.schema
    old = read_table(engine.connection, schema, original)
    new = read_table(engine.connection, schema, copy)
    if old is None or new is None:
        missing = original if old is None else copy
        raise Refused(f"{schema}.{missing} is gone: somebody else renamed or dropped it")
    if old.shape != new.shape:
        different = sorted({name for name, *_ in set(old.shape) ^ set(new.shape)})
        raise Refused(
            f"the columns of {engine.spec.table} changed since prepare ({', '.join(different)}):"
            " take the phases back to prepare (undo), and begin anew"
        )
    return old, new
