"""Let reviews keep the memory state they found.

`"previousState"` is `{"difficulty", "stability", "retrievability"}` before the review; 1, 0 and 1
for a first review, NULL for reviews from before this revision.
"""

from pathlib import Path

from migrations.statements import Column, begin, execute_file

revision = "0003"
down_revision = "0002"

TABLES = ("review_logs",)

EXPECTED = (Column("review_logs", "previousState", "jsonb", required=False),)


def upgrade() -> None:
    begin()
    execute_file(Path(__file__).with_suffix(".sql"))
