"""The application's side of a queue: npm's bullmq in a Node process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.node import install, node

SOURCE = Path(__file__).parent / "node"


class NodeQueue:
    """One queue as the application has it; see `node/queue.mjs`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, "the Node program ended"
        return json.loads(line)

    def counts(self) -> dict[str, int]:
        return self.ask(counts=True)


@contextmanager
def node_queue(
    name: str, redis_url: str, log: Path, prefix: str = "bull", authority: Path | None = None
) -> Iterator[NodeQueue]:
    """Run the application on a queue; `authority` is a file of whom to trust for a `rediss` URL."""
    directory = install("queues", SOURCE)
    trust = {} if authority is None else {"NODE_EXTRA_CA_CERTS": str(authority)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [str(node().node), "queue.mjs", name, prefix],
            cwd=directory,
            env={**node().environment, **trust, "REDIS_URL": redis_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield NodeQueue(process)
    finally:
        process.kill()
        process.wait()
