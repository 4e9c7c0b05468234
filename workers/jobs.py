"""The jobs of the two queues, as their producers and workers agree on them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field


class FsrsOptimizationJob(BaseModel):
    """`{"actorId": "<uuid>"}`: optimize this actor's parameters."""

    actorId: UUID  # noqa: N815 -- producers are a Node application


def _first_day(month: date) -> date:
    if month.day != 1:
        raise ValueError("a month is given by its first day")
    return month


Month = Annotated[date, AfterValidator(_first_day)]


class ComplexityJob(BaseModel):
    """`{}`: compute the complexity of all nodes.

    A calculation with much to read adds jobs `{"months": ["2026-01-01"]}`, which sum months up, and
    notes in its own data when it did, in seconds since 1970.
    """

    months: Annotated[list[Month], Field(min_length=1)] | None = None
    handedOutAt: float | None = None  # noqa: N815 -- beside producers in Node


AnyJob = FsrsOptimizationJob | ComplexityJob


def fsrs_job_id(actor_id: UUID) -> str:
    """Return the id that lets an actor have one job at a time."""
    return f"fsrs-{actor_id}"


def payload(job: AnyJob) -> dict[str, Any]:
    """Return a job's data as the queue stores it."""
    return job.model_dump(mode="json", exclude_none=True)
