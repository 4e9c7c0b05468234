"""Handing a job's work out to jobs of their own, which it waits for: BullMQ's flows."""

from __future__ import annotations

from typing import Any

from bullmq import FlowProducer, Job
from bullmq.custom_errors import WaitingChildrenError

from workers.connections import reconnect_patiently

# Parts that failed for good are kept for whoever looks into it.
KEPT_FAILED = 100


class Flows:
    """Adds children to jobs of one queue."""

    def __init__(self, queue: str, connection: dict[str, Any], prefix: str) -> None:
        self._queue = queue
        self._qualified_queue = f"{prefix}:{queue}"
        self._producer = FlowProducer({"connection": connection, "prefix": prefix})
        reconnect_patiently(self._producer.backend.conn)

    async def hand_out(
        self, job: Job, token: str, children: list[dict[str, Any]], resume: dict[str, Any]
    ) -> None:
        """Add a job for each child's data, and let `job` wait for them.

        Raises WaitingChildrenError, which tells the library that the job is out of hand: it comes
        back, with `resume` added to its data, when every child has completed or failed for good.
        Returns if they all have already. Done twice, because the worker died in between, it adds
        no child twice.
        """
        await self._producer.addBulk([self._child(job, data) for data in children])
        await job.updateData({**job.data, **resume})
        if await job.moveToWaitingChildren(token, {}):
            raise WaitingChildrenError

    def _child(self, job: Job, data: dict[str, Any]) -> dict[str, Any]:
        first = next(iter(data.values()))[0]
        kept = {name: job.opts[name] for name in ("attempts", "backoff") if job.opts.get(name)}
        return {
            "name": "part",
            "queueName": self._queue,
            "data": data,
            "opts": {
                **kept,
                # The same when repeated. A later job of the same name has others: a failed part of
                # the earlier one, which is kept, would be waited for without end.
                # A colon would part the queue's own keys.
                "jobId": f"{job.id}-{job.timestamp}-{first}".replace(":", "-"),
                "removeOnComplete": True,
                "removeOnFail": {"count": KEPT_FAILED},
                # The job itself does what its children have left.
                "ignoreDependencyOnFailure": True,
                "parent": {"id": job.id, "queue": self._qualified_queue},
            },
        }

    async def close(self) -> None:
        """Close the connection."""
        await self._producer.close()
