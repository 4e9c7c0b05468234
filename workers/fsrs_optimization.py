"""The FSRS optimization job: one actor's reviews in, parameters and log-loss out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import args_row
from psycopg.types.json import Jsonb

from workers import fsrs
from workers.database import ensure_bookkeeping, statement
from workers.errors import RefusedJobError

# Cards fetched from the server at a time.
FETCH_SIZE = 1000


@dataclass(frozen=True)
class Result:
    """What a job did. Losses are those of the parameters stored, None if the actor was skipped."""

    outcome: Literal["trained", "kept_default", "skipped"]
    reason: str
    reviews: int
    items: int
    log_loss: float | None = None
    rmse_bins: float | None = None
    default_log_loss: float | None = None
    default_rmse_bins: float | None = None


def optimize_actor(connection: psycopg.Connection, actor_id: UUID, min_reviews: int) -> Result:
    """Train the actor's parameters and store them, with the record of this run, in one commit.

    Actors with fewer than `min_reviews` reviews, or none that can be learned from, are skipped.
    Raises RefusedJobError if there is no such actor, fsrs.TrainingError if training fails.
    """
    data = read_training_set(connection, actor_id)
    result, weights = _optimize(data, min_reviews)
    ensure_bookkeeping(connection)
    find_actor = statement("find_actor" if weights is None else "store_parameters")
    values: dict[str, Any] = {
        **vars(result),
        "actor_id": actor_id,
        "parameters": None if weights is None else Jsonb({"weights": weights}),
    }
    query = sql.SQL("WITH actor AS (\n{}\n)\n{}").format(find_actor, statement("record_fsrs_run"))
    if connection.execute(query, values).rowcount == 0:
        raise RefusedJobError(f"there is no actor {actor_id}")
    return result


def read_training_set(connection: psycopg.Connection, actor_id: UUID) -> fsrs.TrainingSet:
    """Stream the actor's reviews from the server into training items.

    No cursor on the server: for one, Postgres plans to have the first rows soon, and with the index
    on flashcards for that would go through the reviews of everybody.
    """
    with connection.cursor(row_factory=args_row(fsrs.History)) as cursor:
        rows = cursor.stream(
            statement("actor_reviews"), {"actor_id": actor_id}, binary=True, size=FETCH_SIZE
        )
        return fsrs.training_set_of(rows)


def _optimize(data: fsrs.TrainingSet, min_reviews: int) -> tuple[Result, list[float] | None]:
    items = len(data.items)
    if data.reviews < min_reviews:
        reason = f"{data.reviews} reviews, {min_reviews} are needed"
        return Result("skipped", reason, data.reviews, items), None
    if not data.items:
        reason = "no card was reviewed on a second day yet"
        return Result("skipped", reason, data.reviews, items), None
    best = fsrs.optimize(data)
    result = Result(
        best.outcome,
        best.reason,
        data.reviews,
        items,
        best.fit.log_loss,
        best.fit.rmse_bins,
        best.default_fit.log_loss,
        best.default_fit.rmse_bins,
    )
    return result, best.weights
