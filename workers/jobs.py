"""The jobs of the two queues, as their producers and workers agree on them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel


class FsrsOptimizationJob(BaseModel):
    """`{"actorId": "<uuid>"}`: optimize this actor's parameters."""

    actorId: UUID  # noqa: N815 -- producers are a Node application


class ComplexityJob(BaseModel):
    """`{}`: compute the complexity of all nodes."""


AnyJob = FsrsOptimizationJob | ComplexityJob


def fsrs_job_id(actor_id: UUID) -> str:
    """Return the id that lets an actor have one job at a time."""
    return f"fsrs-{actor_id}"


def payload(job: AnyJob) -> dict[str, Any]:
    """Return a job's data as the queue stores it."""
    return job.model_dump(mode="json")
