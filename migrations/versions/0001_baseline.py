"""Create the application's tables where they are missing, adopt them where they exist.

An adopted table keeps its rows, its indexes, its constraints and their names; what it must have are
the columns below, of these types. Tables are in an order in which foreign keys find their target.
"""

from pathlib import Path

from migrations.statements import Column, begin, create_where_missing, expect

revision = "0001"
down_revision = None

TABLES = ("actors", "flashcards", "review_logs", "nodes", "edges")

# TypeORM's type for a plain string property is `character varying`; to Postgres it is as good.
_TEXT = "text or character varying"
_TIMESTAMP = "timestamp without time zone"

EXPECTED = (
    Column("actors", "id", "uuid"),
    Column("actors", "createdAt", _TIMESTAMP),
    Column("flashcards", "id", "uuid"),
    Column("flashcards", "activityPubId", _TEXT),
    Column("review_logs", "id", "uuid"),
    Column("review_logs", "flashcardId", "uuid"),
    Column("review_logs", "actorId", "uuid"),
    Column("review_logs", "rating", "smallint"),
    Column("review_logs", "state", "jsonb"),
    Column("review_logs", "elapsed_time", "integer"),
    Column("review_logs", "reviewed_at", _TIMESTAMP),
    Column("review_logs", "scheduled_on", _TIMESTAMP),
    Column("nodes", "id", "uuid"),
    Column("nodes", "type", _TEXT),
    Column("nodes", "properties", "jsonb"),
    Column("edges", "id", "uuid"),
    Column("edges", "sourceId", "uuid"),
    Column("edges", "targetId", "uuid"),
    Column("edges", "type", _TEXT),
    Column("edges", "properties", "jsonb"),
    # Columns of later revisions that an adopted table may have already.
    Column("actors", "fsrs_parameters", "jsonb", required=False),
    Column("actors", "fsrs_log_loss", "double precision", required=False),
    Column("review_logs", "previousState", "jsonb", required=False),
)


def upgrade() -> None:
    begin()
    expect(EXPECTED)
    for table in TABLES:
        create_where_missing(table, Path(__file__).with_suffix("") / f"{table}.sql")
