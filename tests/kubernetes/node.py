"""The stand-in for scheduler, kubelet and nodes: runs the containers of pods as local processes.

It watches the pods of a control plane, puts each on a node, gives it an address of its own on
loopback, runs its containers, and reports on them as a kubelet does. README.md says what it cannot
show.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kubernetes.addresses import free_address
from tests.kubernetes.api import Api, ApiError
from tests.kubernetes.containers import Image, now
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.environment import Object
from tests.kubernetes.identity import AUDIENCE, Agent, Identities
from tests.kubernetes.pods import PodRunner, Tempo, token_for

ROOT = Path(__file__).resolve().parents[2]

_HEARTBEAT_SECONDS = 10
_WATCH_SECONDS = 240
_STOP_SECONDS = 10


class NodeError(Exception):
    """There is no such pod here, or what is asked of it cannot be done."""


@dataclass
class _Machine:
    """One Node object."""

    name: str
    zone: str
    labels: dict[str, str]


class Node:
    """Nodes of a cluster, one a zone, on which pods run as processes."""

    def __init__(
        self,
        plane: ControlPlane,
        directory: Path,
        image: Image,
        tempo: Tempo,
        zones: tuple[str, ...],
    ) -> None:
        self.api: Api = plane.api
        self.image = image
        self.tempo = tempo
        self.host_address = "127.0.0.1"
        self.missing_images: set[str] = set()
        """Images that cannot be pulled."""
        self.errors: list[str] = []
        """What went wrong with the stand-in itself."""
        self.agent: Agent | None = None
        self._directory = directory
        self._runners: dict[str, PodRunner] = {}
        self._placed: dict[str, tuple[str, str]] = {}
        """Each pod's node and owner."""
        self._count = itertools.count()
        self._stopped = threading.Event()
        self._machines = [_machine(zone, number) for number, zone in enumerate(zones)]
        self._threads = [
            threading.Thread(target=self._follow, daemon=True),
            threading.Thread(target=self._beat, daemon=True),
        ]

    def logs(self, namespace: str, pod: str, container: str = "*") -> str:
        """Return all that a pod's containers have written, restart by restart, also after its end.

        Raises NodeError for a pod that never ran here.
        """
        directory = self._directory / "logs" / namespace / pod
        files = sorted(directory.glob(f"*.{container}.log"))
        if not files:
            raise NodeError(f"{namespace}/{pod} has written no log here")
        return "".join(file.read_text(errors="replace") for file in files)

    def kill(self, namespace: str, pod: str, container: str | None = None) -> None:
        """Kill the processes of a pod's container, its first by default, with SIGKILL."""
        for each in self._runner(namespace, pod).containers:
            if container in (None, each.name):
                if not each.running:
                    raise NodeError(f"{each.name} of {namespace}/{pod} does not run")
                each.kill()
                return
        raise NodeError(f"{namespace}/{pod} has no container {container}")

    def address(self, namespace: str, pod: str) -> str:
        """Return the pod's address."""
        return self._runner(namespace, pod).address

    def running(self, namespace: str) -> list[str]:
        """Return the names of the pods whose processes run."""
        return sorted(
            runner.name
            for runner in list(self._runners.values())
            if runner.namespace == namespace and any(each.running for each in runner.containers)
        )

    def pullable(self, image: str) -> bool:
        return image not in self.missing_images

    def log_file(self, namespace: str, pod: str, container: str) -> Path:
        directory = self._directory / "logs" / namespace / pod
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{next(self._count):06d}.{container}.log"

    def identity(self, pod: Object, directory: Path) -> Mapping[str, str]:
        if self.agent is None:
            return {}
        account = (
            pod["metadata"]["namespace"],
            pod["spec"].get("serviceAccountName", "default"),
        )
        file = directory / "eks-pod-identity-token"
        variables = self.agent.environment(account, str(file))
        if variables:
            file.touch(mode=0o600)
            file.write_text(token_for(self.api, pod, AUDIENCE, 86_400))
        return variables

    def start(self) -> None:
        """Register the nodes and begin to run pods; raise ApiError."""
        for machine in self._machines:
            self._register(machine)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all processes at once, as of a machine switched off; pods stay in the API."""
        self._stopped.set()
        for runner in list(self._runners.values()):
            runner.abandon()
        for runner in list(self._runners.values()):
            runner.join(_STOP_SECONDS)
        for machine in self._machines:
            with contextlib.suppress(ApiError):
                self.api.delete(f"/api/v1/nodes/{machine.name}")

    def _runner(self, namespace: str, pod: str) -> PodRunner:
        for runner in list(self._runners.values()):
            if (runner.namespace, runner.name) == (namespace, pod):
                return runner
        raise NodeError(f"{namespace}/{pod} does not run here")

    def _follow(self) -> None:
        """Take up what happens to pods, from a list and then from a watch, over and over."""
        while not self._stopped.is_set():
            try:
                found = self.api.get("/api/v1/pods")
                for pod in found["items"]:
                    self._see(pod)
                present = {pod["metadata"]["uid"] for pod in found["items"]}
                for uid, runner in list(self._runners.items()):
                    if uid not in present:
                        self._gone(runner)
                version = found["metadata"]["resourceVersion"]
                for kind, pod in self.api.watch("/api/v1/pods", version, _WATCH_SECONDS):
                    if self._stopped.is_set():
                        return
                    if kind == "DELETED":
                        self._placed.pop(pod["metadata"]["uid"], None)
                        runner = self._runners.get(pod["metadata"]["uid"])
                        if runner is not None:
                            self._gone(runner)
                    else:
                        self._see(pod)
            except Exception as error:
                # The API may be away for a while, or have forgotten the version we watch from.
                forgiven = isinstance(error, ApiError) and error.status in (0, 410)
                if not self._stopped.is_set() and not forgiven:
                    self.errors.append(f"watching pods: {error!r}")
                self._stopped.wait(0.5)

    def _see(self, pod: Object) -> None:
        """Take up a pod as it is now."""
        metadata = pod["metadata"]
        runner = self._runners.get(metadata["uid"])
        if runner is None:
            if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                if "deletionTimestamp" in metadata and self._is_here(pod):
                    self._finished(pod).remove()
                return
            if not pod["spec"].get("nodeName"):
                if "deletionTimestamp" not in metadata:
                    self._schedule(pod)
                return
            if not self._is_here(pod):
                return
            runner = PodRunner(pod, self._free_address(), self._pod_directory(), self)
            self._runners[metadata["uid"]] = runner
            runner.start()
        if "deletionTimestamp" in metadata:
            runner.delete(metadata.get("deletionGracePeriodSeconds", 30))

    def _finished(self, pod: Object) -> PodRunner:
        return PodRunner(pod, "", self._pod_directory(), self)

    def _pod_directory(self) -> Path:
        # A short path: programs put sockets into TMPDIR, whose paths are 107 bytes at most.
        return self._directory / str(next(self._count))

    def _gone(self, runner: PodRunner) -> None:
        """End a pod that the API has no more: it was removed without waiting for us."""
        self._runners.pop(runner.pod["metadata"]["uid"], None)
        runner.delete(0)

    def _is_here(self, pod: Object) -> bool:
        return pod["spec"].get("nodeName") in {machine.name for machine in self._machines}

    def _schedule(self, pod: Object) -> None:
        """Put a pod on the fitting node with the fewest of its kind, or say that none fits."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        wanted = pod["spec"].get("nodeSelector", {})
        fitting = [each for each in self._machines if wanted.items() <= each.labels.items()]
        try:
            if not fitting:
                words = f"0/{len(self._machines)} nodes are available: none has {wanted}"
                condition = {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": words,
                }
                present = pod.get("status", {}).get("conditions", [])
                if not any(each.get("reason") == "Unschedulable" for each in present):
                    self.api.patch(f"{path}/status", {"status": {"conditions": [condition]}})
                return
            chosen = min((each.name for each in fitting), key=lambda name: self._load(name, pod))
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": chosen},
            }
            self.api.create(f"{path}/binding", binding)
            self._placed[metadata["uid"]] = chosen, _owner(pod)
        except ApiError as error:
            # It may be gone, or bound, by now.
            if error.status not in (404, 409):
                self.errors.append(str(error))

    def _load(self, node: str, pod: Object) -> tuple[int, int]:
        """Return how many pods a node has: of the same owner as `pod`, and of all."""
        owners = [
            owner
            for uid, (name, owner) in self._placed.items()
            if name == node and not (uid in self._runners and self._runners[uid].finished)
        ]
        return owners.count(_owner(pod)), len(owners)

    def _free_address(self) -> str:
        taken = {runner.address for runner in self._runners.values() if not runner.finished}
        return free_address(taken=taken)

    def _register(self, machine: _Machine) -> None:
        metadata = {"name": machine.name, "labels": machine.labels}
        spec = {"providerID": f"aws:///{machine.zone}/i-{machine.name}"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}
        self.api.create("/api/v1/nodes", node)
        self._report(machine)

    def _report(self, machine: _Machine) -> None:
        quantities = {"cpu": "64", "memory": "256Gi", "pods": "110"}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "the stand-in is running",
            "lastHeartbeatTime": now(),
        }
        addresses = [
            {"type": "InternalIP", "address": self.host_address},
            {"type": "Hostname", "address": machine.name},
        ]
        status = {
            "capacity": quantities,
            "allocatable": quantities,
            "conditions": [ready],
            "addresses": addresses,
        }
        self.api.patch(f"/api/v1/nodes/{machine.name}/status", {"status": status})

    def _beat(self) -> None:
        """Tell the controllers that the nodes are alive: without it they would evict the pods."""
        while not self._stopped.wait(_HEARTBEAT_SECONDS):
            for machine in self._machines:
                with contextlib.suppress(ApiError):
                    self._report(machine)


def _owner(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences", [])
    return owners[0]["uid"] if owners else ""


def _machine(zone: str, number: int) -> _Machine:
    name = f"node-{number}-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
    return _Machine(
        name,
        zone,
        {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            # What prod's nodes are; the processes are whatever this machine is.
            "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/region": zone[:-1],
            "topology.kubernetes.io/zone": zone,
            "node.kubernetes.io/instance-type": "stand-in",
        },
    )


def our_image(environment: Mapping[str, str]) -> Image:
    """Return what our own image has: `python`, and the project at /application.

    `environment` are the variables of its Dockerfile.
    """
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    return Image(
        {"PATH": search_path, **environment},
        {"python": Path(sys.executable)},
        {"/application": ROOT},
    )


@contextmanager
def running_node(
    control_plane: ControlPlane,
    *,
    identities: Identities | None = None,
    environment: Mapping[str, str] | None = None,
    zones: tuple[str, ...] = ("eu-central-1a",),
    tempo: Tempo | None = None,
) -> Iterator[Node]:
    """Run pods of the control plane as processes until the context ends.

    `identities` says which service accounts have a role at AWS; `environment` is what the image
    brings, for all containers. There is one node for each of `zones`. Raises NodeError at the end
    if the stand-in itself went wrong.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="test-node-")))
        image = our_image(environment or {})
        node = Node(control_plane, directory, image, tempo or Tempo(), zones)
        if identities is not None:
            node.agent = stack.enter_context(Agent(node.api, identities))
        stack.callback(node.stop)
        node.start()
        yield node
        if node.errors:
            raise NodeError("the stand-in for a node went wrong:\n" + "\n".join(node.errors))
