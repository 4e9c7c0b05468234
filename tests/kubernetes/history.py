"""What happens to the pods of a program while a test does something else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.kubernetes.api import ApiError, Object
from tests.kubernetes.objects import Cluster, is_ready, states

_WATCH_SECONDS = 2


@dataclass
class History:
    """The pods with some labels since we look, each as it was last seen."""

    labels: dict[str, str]
    pods: dict[str, Object] = field(default_factory=dict[str, Object])
    """By name; those that are gone stay as they were at their end."""
    fewest_ready: int = sys.maxsize
    """At any moment; a pod that is told to go does not count."""
    most: int = 0
    """Pods there at any moment but for those told to go."""
    errors: list[ApiError] = field(default_factory=list[ApiError])
    _staying: dict[str, Object] = field(default_factory=dict[str, Object])

    def see(self, *events: tuple[str, Object]) -> None:
        """Take up what happened to pods, as of one moment."""
        for kind, pod in events:
            self._take(kind, pod)
        ready = sum(is_ready(pod) for pod in self._staying.values())
        self.fewest_ready = min(self.fewest_ready, ready)
        self.most = max(self.most, len(self._staying))

    def _take(self, kind: str, pod: Object) -> None:
        metadata = pod["metadata"]
        if not self.labels.items() <= metadata.get("labels", {}).items():
            return
        name = metadata["name"]
        self.pods[name] = pod
        if kind == "DELETED" or "deletionTimestamp" in metadata:
            self._staying.pop(name, None)
        else:
            self._staying[name] = pod

    def leaving(self) -> set[str]:
        """Return the names of those that are gone or going."""
        return self.pods.keys() - self._staying.keys()

    def exit_codes(self, names: Collection[str]) -> dict[str, int | None]:
        """Return how the first containers of pods ended; None where nobody has told."""
        ended = {name: states(self.pods[name])[0].get("terminated", {}) for name in names}
        return {name: state.get("exitCode") for name, state in ended.items()}


@contextmanager
def following(cluster: Cluster, **labels: str) -> Iterator[History]:
    """Follow the pods with these labels. Raises ApiError at the end if something was missed."""
    history = History(labels)
    path = cluster.path("pods")
    listed = cluster.api.get(path)
    history.see(*(("ADDED", pod) for pod in listed["items"]))
    ended = threading.Event()

    def follow() -> None:
        version = listed["metadata"]["resourceVersion"]
        try:
            while not ended.is_set():
                for event in cluster.api.watch(path, version, _WATCH_SECONDS):
                    version = event[1]["metadata"]["resourceVersion"]
                    history.see(event)
        except ApiError as error:
            history.errors.append(error)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield history
    finally:
        ended.set()
        thread.join(_WATCH_SECONDS * 3)
    if history.errors:
        raise history.errors[0]
