"""Give actors their FSRS parameters, and the log-loss of the fit.

`fsrs_parameters` is `{"weights": [...]}`; both are NULL until the actor's first training.
"""

from pathlib import Path

from migrations.statements import Column, begin, execute_file

revision = "0002"
down_revision = "0001"

TABLES = ("actors",)

EXPECTED = (
    Column("actors", "fsrs_parameters", "jsonb", required=False),
    Column("actors", "fsrs_log_loss", "double precision", required=False),
)


def upgrade() -> None:
    begin()
    execute_file(Path(__file__).with_suffix(".sql"))
