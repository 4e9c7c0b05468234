"""The SQL of the engine: templates in `sql/`, filled with identifiers by psycopg.

`phase_sql` shows what a phase runs, from the spec alone; what only the catalogue knows (columns,
indexes, months) stands there in angle brackets, and one month's statements stand for all of them.
The engine fills the same templates with what it found.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from psycopg import sql

from migrations.partition.names import Names, fitted
from migrations.partition.phases import Phase
from migrations.partition.spec import Spec

OPERATIONS = ("insert", "update", "delete")

ALWAYS = sql.SQL("true")
NEVER = sql.SQL("false")

_SHOWN: dict[Phase, tuple[str, ...]] = {
    Phase.PREPARE: (
        "bookkeeping",
        "prepare_log",
        "prepare_table",
        "<indexes and unique constraints of the table, with the key in the primary key>",
        "<storage settings, statistics targets, comments, grants and replica identity>",
        "-- For every month YYYYMM, from the first with rows through {ahead} ahead:",
        "prepare_month",
    ),
    Phase.SYNC: ("sync_function", "sync_refuse_truncate", "sync_triggers"),
    Phase.BACKFILL: (
        "-- Where an index finds a month's rows, for every month YYYYMM, in slices of a second:",
        "backfill_slice",
        "-- Else for all months at once, in one pass over the table, in slices of a second:",
        "backfill_blocks_begin",
        "backfill_blocks_attach",
        "backfill_blocks_slice",
        "backfill_blocks_detach",
        "-- Then, for every month YYYYMM:",
        "backfill_forget",
        "<indexes and unique constraints of the partition>",
        "backfill_attach",
        "-- Until few changes of the month are left, and again at the end of backfill_live.",
        "drain_take",
        "drain_delete",
        "drain_insert",
        "-- If rows were in each other's way:",
        "drain_again",
        "backfill_live",
        "-- The triggers of sync look which months are live; once all are, every session that may",
        "-- know less partitions than there are learns of them:",
        "refresh_descriptors",
        "-- Then the triggers begin with:",
        "sync_first_mirror",
        "-- and for single rows that are updated or deleted:",
        "sync_first_row",
    ),
    Phase.VERIFY: (
        "-- BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; pg_export_snapshot()",
        "verify_fingerprint",
        "-- For every month whose number of rows or digest differs:",
        "verify_differences",
    ),
    Phase.CUTOVER: (
        "-- One transaction:",
        "cutover_view_lock",
        "cutover_lock",
        "-- What is left in the log: drain_take, drain_delete, drain_insert.",
        "drop_triggers",
        "cutover_rename",
        "<names of indexes, sequences, views, triggers of the application and publications follow>",
        "cutover_foreign_key",
        "cutover_defer",
        "cutover_reverse_function",
        "sync_triggers",
        "-- After its commit, a partition at a time:",
        "cutover_validate",
        "cutover_adopt",
    ),
    Phase.RETIRE: (
        "-- The verification again; then, if equal and held long enough, one transaction:",
        "drop_triggers",
        "retire",
    ),
}


_ASSIGNMENTS = sql.SQL("<column> = excluded.<column>")


@cache
def text(name: str) -> str:
    """Return the text of `sql/<name>.sql`."""
    return (
        files("migrations.partition")
        .joinpath("sql", f"{name}.sql")
        .read_text(encoding="utf-8")
        .strip()
    )


def template(name: str, /, **parts: sql.Composable) -> sql.Composed:
    """Fill the template `sql/<name>.sql`."""
    return sql.SQL(text(name)).format(**parts)  # pyright: ignore[reportArgumentType] -- our own files


def raw(fragment: str) -> sql.SQL:
    """Take over a fragment that Postgres itself wrote, such as a constraint's definition."""
    return sql.SQL(fragment)  # pyright: ignore[reportArgumentType]


def names_list(columns: tuple[str, ...] | list[str]) -> sql.Composed:
    """Return the columns as a list of identifiers."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def touched_rows(
    operation: str, primary_key: sql.Composable, key: sql.Composable
) -> sql.Composable:
    """Return the query of the row versions that a statement touched, from transition tables."""
    old = sql.SQL("SELECT {}, {}, false AS is_new FROM old_rows").format(primary_key, key)
    new = sql.SQL("SELECT {}, {}, true AS is_new FROM new_rows").format(primary_key, key)
    return {
        "insert": new,
        "update": sql.SQL("{} UNION ALL {}").format(old, new),
        "delete": old,
    }[operation]


def transition_table(operation: str) -> sql.SQL:
    """Return the name of the transition table with a statement's rows, new ones where there are."""
    return sql.SQL("old_rows" if operation == "delete" else "new_rows")


def function_settings(has_time_zone: bool, is_planned: bool) -> sql.SQL:
    """Return the settings of a trigger function: each of them costs every write something.

    `is_planned`: it finds few rows among many, never by a scan, whatever the statistics say.
    """
    zone = "\nSET timezone = 'UTC'" if has_time_zone else ""
    planner = (
        "\nSET enable_seqscan = off SET enable_hashjoin = off"
        " SET enable_mergejoin = off SET jit = off"
        if is_planned
        else ""
    )
    return raw(zone + planner)


def in_place_condition(unique: sql.Composable) -> sql.Composed:
    """Return the condition that an update changed none of the columns `unique`."""
    return sql.SQL(
        "NOT EXISTS (SELECT {unique} FROM new_rows EXCEPT SELECT {unique} FROM old_rows)"
    ).format(unique=unique)


def in_place(
    direction: str,
    operation: str,
    parts: dict[str, sql.Composable],
    assignments: sql.Composable | None,
    condition: sql.Composable | None = None,
) -> sql.Composed:
    """Return the statement that mirrors a statement's rows as the transition tables have them.

    In the direction `forward` it goes by the one partition that was found; with a `condition`, by
    the new table, for the rows of which it holds.

    `parts` has the template's `copy`, `columns` and `unique`, and for a deletion what its own
    takes; `assignments` are what an update sets, None where the copy has nothing to set. In the
    direction `reverse` a new row whose key is there already is an error, as it was before cutover.
    """
    if operation == "delete":
        return template(f"{direction}_delete_in_place", **parts)
    on_conflict: sql.Composable = sql.SQL("\n            ON CONFLICT DO NOTHING")
    if operation == "update" and assignments is not None:
        on_conflict = sql.SQL("\n            ON CONFLICT ({}) DO UPDATE SET {}").format(
            parts["unique"], assignments
        )
    elif operation == "insert" and direction == "reverse":
        on_conflict = sql.SQL("")
    if direction == "forward" and condition is None:
        return template("forward_rows_in_place", **parts, on_conflict=on_conflict)
    return template("mirror_rows", **parts, condition=condition or ALWAYS, on_conflict=on_conflict)


def phase_sql(spec: Spec, phase: Phase) -> str:
    """Return the SQL that a phase will run, readable, from the spec alone.

    The same spec gives the same text on every day and for every database.
    """
    names = Names.of(spec)
    blocks: list[str] = []
    for entry in _SHOWN[phase]:
        if entry.startswith("<"):
            blocks.append(f"-- {entry}")
        elif entry.startswith("--"):
            blocks.append(entry.replace("{ahead}", str(spec.ahead)))
        elif entry == "bookkeeping":
            blocks.append(text(entry))
        else:
            blocks += [
                template(entry, **parts).as_string()
                for parts in _placeholders(names, spec, phase, entry)
            ]
    return "\n\n".join(blocks) + "\n"


def _placeholders(
    names: Names, spec: Spec, phase: Phase, entry: str
) -> list[dict[str, sql.Composable]]:
    """Return the parts for a template, once for each time it is shown."""
    key = sql.Identifier(spec.key)
    primary_key = sql.SQL("<primary key>")
    parts: dict[str, sql.Composable] = {
        "live": names.live,
        "partitioned": names.partitioned,
        "retired": names.retired,
        "loading": names.loading,
        "first": sql.SQL("<first block>"),
        "end": sql.SQL("<block after the last>"),
        "in_months": sql.SQL("<months that are loaded>"),
        "schema": sql.Literal(names.schema),
        "log": names.log,
        "key": key,
        "primary_key": primary_key,
        "unique": sql.SQL("<primary key>, {}").format(key),
        "primary_key_definitions": sql.SQL("<columns of the primary key, with their types>"),
        "columns": sql.SQL("<columns>"),
        "hashed_columns": sql.SQL("<columns>"),
        "either_key": sql.SQL("<primary key>"),
        "partition": names.partition(fitted(f"{names.table}_YYYYMM")),
        "lower": sql.Literal("YYYY-MM-01"),
        "upper": sql.Literal("YYYY-MM-01 and a month"),
        "month": sql.Literal("YYYY-MM-01"),
        "storage": sql.SQL(""),
        "limit": sql.SQL("<limit>"),
        "lock_class": sql.SQL("<number of the table>"),
        "generation": sql.SQL("<number of the sync>"),
        "lock_month": sql.SQL("<number of the month>"),
        "table_id": sql.SQL("<number of the table>"),
        "relation": names.partitioned if entry == "refresh_descriptors" else names.live,
        "target": sql.SQL("<as it is>"),
        "known": sql.SQL("<the row is of one of the months, as it was before>"),
        "locked": template("month_lock", lock_class=sql.SQL("<number of the table>"), key=key),
        "rows": sql.SQL("<transition tables>"),
        "by_month": sql.SQL("<UPDATE or DELETE of the row in its month's partition>"),
        "range": sql.SQL("<range of ctid>"),
        "original": names.live,
        "copy": names.partitioned,
        "mode": sql.SQL("ACCESS EXCLUSIVE"),
        "outgoing_name": sql.Identifier(names.retired_name),
        "incoming": names.partitioned,
        "live_name": sql.Identifier(names.table),
        "constraint": sql.SQL("<foreign key>"),
        "view": sql.SQL("<view>"),
        "owner": sql.SQL("<owner>"),
        "definition": sql.SQL("<definition>"),
        "additions": sql.SQL("ADD CONSTRAINT <foreign key> <definition> NOT VALID"),
    }
    direction = "forward" if phase is Phase.SYNC else "reverse"
    if entry == "sync_first_mirror":
        return [
            {
                "in_place": in_place(
                    "forward",
                    operation,
                    parts,
                    _ASSIGNMENTS,
                    template("sync_first_condition", **parts, is_in_place=condition),
                )
            }
            for operation, condition in (
                ("insert", ALWAYS),
                ("update", in_place_condition(parts["unique"])),
            )
        ]
    if entry in ("sync_function", "cutover_reverse_function"):
        if direction == "reverse":
            parts |= {"copy": names.retired, "unique": primary_key}
        return [
            parts
            | {
                "first": template(
                    "sync_first_log",
                    **parts,
                    touched_rows=touched_rows(operation, primary_key, key),
                )
                if phase is Phase.SYNC
                else sql.SQL(""),
                "settings": function_settings(
                    True, phase is not Phase.SYNC or operation == "delete"
                ),
                "transition_table": transition_table(operation),
                "is_in_place": in_place_condition(parts["unique"])
                if operation == "update"
                else ALWAYS,
                "in_place": in_place(direction, operation, parts, _ASSIGNMENTS),
                "function": names.function(direction, operation),
                "operation": sql.SQL(operation.upper()),  # pyright: ignore[reportArgumentType]
                "touched_rows": touched_rows(operation, primary_key, key),
                "apply": template(
                    "cutover_reverse_insert" if operation == "insert" else "cutover_reverse_change",
                    **parts,
                    touched_rows=touched_rows(operation, primary_key, key),
                ),
            }
            for operation in OPERATIONS
        ]
    parts |= {
        f"on_{operation}": names.function(direction, operation)
        for operation in (*OPERATIONS, "truncate")
    }
    parts["function"] = names.function(direction, "truncate")
    return [parts]
