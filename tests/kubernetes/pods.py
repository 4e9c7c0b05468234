"""The life of one pod on the stand-in for a node, as the kubelet leads it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.kubernetes.api import Api, ApiError
from tests.kubernetes.containers import Command, Container, Image, now, waiting
from tests.kubernetes.environment import (
    NotYetError,
    Object,
    Sources,
    UnsupportedError,
    expand,
    variables_of,
)
from tests.kubernetes.probes import Target, Watch, check_supported
from tests.kubernetes.volumes import Paths, make_volumes, mounts_of, temporary_variables

_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 0.5
_BACK_OFF_MAXIMUM = 300.0
_BACK_OFF_RESET = 600.0
"""A container that has run for so long begins anew with its back-off."""

_KILLED_SECONDS = 5.0


@dataclass(frozen=True)
class Tempo:
    """How fast a node goes about its work; the defaults are the kubelet's."""

    back_off_seconds: float = 10.0
    """The wait before the second restart; then twice as long each time."""
    probe_at_most_every: float | None = None
    """Makes the periods of all probes shorter."""


class Surroundings(Protocol):
    """What a pod is given by its node."""

    @property
    def api(self) -> Api: ...
    @property
    def image(self) -> Image: ...
    @property
    def tempo(self) -> Tempo: ...
    @property
    def host_address(self) -> str: ...
    @property
    def errors(self) -> list[str]:
        """What went wrong with the stand-in itself."""
        ...

    def pullable(self, image: str) -> bool:
        """Return whether the registry has the image."""
        ...

    def log_file(self, namespace: str, pod: str, container: str) -> Path:
        """Return a new file for what a container writes."""
        ...

    def identity(self, pod: Object, directory: Path) -> Mapping[str, str]:
        """Return the variables that AWS adds for a pod with an identity."""
        ...


class _Deleted(Exception):  # noqa: N818 - a turn of events
    """Somebody wants the pod to go."""


class _Gone(Exception):  # noqa: N818 - likewise
    """The API has the pod no more."""


class PodRunner:
    """Runs the containers of a pod in a thread of its own and reports on them."""

    def __init__(self, pod: Object, address: str, directory: Path, node: Surroundings) -> None:
        self.pod = pod
        self.address = address
        self._node = node
        self._directory = directory
        self._grace: float | None = None
        self._ended = False
        self._ending = threading.Lock()
        self._abandoned = threading.Event()
        self._wake = threading.Event()
        self._reported: Object = {}
        self._since: dict[str, tuple[str, str]] = {}
        """Each condition's status, and since when it has it."""
        self._phase = "Pending"
        self._volumes: dict[str, Path] = {}
        self._identity: Mapping[str, str] = {}
        self._watches: dict[str, list[Watch]] = {}
        spec = pod["spec"]
        self.init_containers = [self._container(each) for each in spec.get("initContainers", [])]
        self.containers = [self._container(each) for each in spec["containers"]]
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._started_at = now()

    @property
    def namespace(self) -> str:
        return self.pod["metadata"]["namespace"]

    @property
    def name(self) -> str:
        return self.pod["metadata"]["name"]

    @property
    def finished(self) -> bool:
        """Whether nothing of it runs, nor will."""
        return self._ended

    def start(self) -> None:
        self._thread.start()

    def delete(self, grace: float) -> None:
        """End the containers within so many seconds, then remove the pod from the API."""
        with self._ending:
            self._grace = grace if self._grace is None else min(self._grace, grace)
            if self._ended:
                self.remove()
        self._wake.set()

    def abandon(self) -> None:
        """End the containers at once and tell nobody: the node goes down."""
        self._abandoned.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def remove(self) -> None:
        """Remove a pod whose containers have ended from the API."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.pod["metadata"]["uid"]},
        }
        with contextlib.suppress(ApiError):
            self._node.api.delete(self._path(), options)

    def _container(self, spec: Object) -> Container:
        return Container(spec, self._directory / "m" / spec["name"])

    def _live(self) -> None:
        try:
            try:
                self._check()
                self._prepare()
                if self._initialise():
                    self._run()
            except UnsupportedError as error:
                self._refuse(str(error))
            except _Deleted:
                self._end()
        except _Gone:
            pass
        except Exception as error:
            self._node.errors.append(f"{self.namespace}/{self.name}: {error!r}")
            raise
        finally:
            for container in self._all():
                self._unwatch(container)
                container.kill()
            for container in self._all():
                if container.process is not None:
                    container.process.wait(_KILLED_SECONDS)
            shutil.rmtree(self._directory, ignore_errors=True)
            with self._ending:
                self._ended = True
                if self._grace is not None and not self._abandoned.is_set():
                    self.remove()

    def _all(self) -> list[Container]:
        return [*self.init_containers, *self.containers]

    def _check(self) -> None:
        """Raise UnsupportedError for what the pod asks of a node that we are not."""
        spec = self.pod["spec"]
        for key in ("hostNetwork", "hostPID", "hostIPC", "activeDeadlineSeconds", "readinessGates"):
            if spec.get(key):
                raise UnsupportedError(key)
        for container in self._all():
            for key in ("stdin", "tty", "volumeDevices", "restartPolicy"):
                if container.spec.get(key):
                    raise UnsupportedError(f"{key} of the container {container.name}")
            if "postStart" in container.spec.get("lifecycle", {}):
                raise UnsupportedError(f"postStart of the container {container.name}")
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if kind in container.spec:
                    check_supported(container.spec[kind])

    def _prepare(self) -> None:
        """Make directory and volumes, waiting for what they are made of."""
        (self._directory / "m").mkdir(parents=True, exist_ok=True)
        self._identity = self._node.identity(self.pod, self._directory)

        def make() -> None:
            volumes = self._directory / "v"
            self._volumes = make_volumes(self._sources(), volumes, self._token)

        self._once_there(make, self._all(), "ContainerCreating")

    def _initialise(self) -> bool:
        """Run the init containers, one after the other; return whether all went well."""
        for container in self.init_containers:
            self._begin(container)
            while container.exit_code != 0:
                if container.collect():
                    self._after_exit(container)
                elif container.exit_code is not None and not self._may_restart(container):
                    self._phase = "Failed"
                    self._report()
                    return False
                elif self._restart_due(container):
                    self._begin(container)
                self._report()
                if container.exit_code != 0:
                    self._pause()
        return True

    def _run(self) -> None:
        """Run the containers until all have ended for good."""
        for container in self.containers:
            self._begin(container)
        self._phase = "Running"
        while True:
            for container in self.containers:
                if container.collect():
                    self._after_exit(container)
                elif self._restart_due(container):
                    self._begin(container)
            if all(
                each.exit_code is not None and not self._may_restart(each)
                for each in self.containers
            ):
                self._phase = self._outcome()
                while not self._report():
                    self._pause(_AGAIN_SECONDS)
                return
            self._report()
            self._pause()

    def _outcome(self) -> str:
        failed = any(each.exit_code != 0 for each in self.containers)
        return "Failed" if failed else "Succeeded"

    def _end(self) -> None:
        """End what runs: first politely, and when the time is over by force."""
        began = time.monotonic()
        for container in self._all():
            if container.running:
                threading.Thread(target=self._stop, args=[container], daemon=True).start()
        while any(container.running for container in self._all()):
            for container in self._all():
                if container.running and time.monotonic() > began + (self._grace or 0):
                    container.kill()
                if container.collect():
                    self._unwatch(container)
            self._report()
            if self._abandoned.wait(_LOOK_SECONDS):
                raise _Gone
        for container in self._all():
            if container.exit_code is None:
                # As the kubelet has it for a container of which it knows no end.
                container.state = {
                    "terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}
                }
        self._phase = self._outcome()
        self._report()

    def _stop(self, container: Container) -> None:
        began = time.monotonic()
        grace = self._grace if self._grace is not None else self._spec_grace()
        hook = container.spec.get("lifecycle", {}).get("preStop", {})
        if "sleep" in hook:
            time.sleep(min(hook["sleep"]["seconds"], grace))
        elif "exec" in hook:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                self._execute(container, hook["exec"]["command"], grace)
        # The kubelet leaves two seconds after a hook that took all the time.
        container.stop(max(grace - (time.monotonic() - began), 2.0 if hook else 0.0))

    def _spec_grace(self) -> float:
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _refuse(self, what: str) -> None:
        self._phase = "Failed"
        for container in self._all():
            container.state = waiting("Unsupported", what)
        self._report(
            reason="Unsupported", message=f"the stand-in for a node cannot do this: {what}"
        )

    def _once_there(
        self, make: Callable[[], None], containers: Sequence[Container], reason: str
    ) -> None:
        """Do what needs objects of the API, again and again until they are there."""
        while True:
            try:
                make()
            except (NotYetError, ApiError) as missing:
                for container in containers:
                    container.state = waiting(reason, str(missing))
                self._report()
                self._pause(_AGAIN_SECONDS)
            else:
                return

    def _begin(self, container: Container) -> None:
        """Start a container, once its image and all it refers to are there."""

        def make() -> None:
            if not self._node.pullable(container.spec["image"]):
                raise NotYetError(f"image {container.spec['image']} not found")
            if container.exit_code is not None:
                container.last_state = container.state
                container.restarts += 1
            log = self._node.log_file(self.namespace, self.name, container.name)
            container.start(self._command(container), self._node.image, log)

        pulled = self._node.pullable(container.spec["image"])
        reason = "CreateContainerConfigError" if pulled else "ErrImagePull"
        self._once_there(make, [container], reason)
        if container.running:
            self._watch(container)
        else:
            self._after_exit(container)

    def _command(self, container: Container, arguments: Sequence[str] | None = None) -> Command:
        spec, image = container.spec, self._node.image
        mounts = mounts_of(spec, self._volumes)
        message = spec.get("terminationMessagePath", "/dev/termination-log")
        paths = Paths({**image.places, message: container.message_file, **mounts})
        own = variables_of(spec, self._sources())
        variables = {
            **image.variables,
            "HOSTNAME": self.name,
            **temporary_variables(mounts),
            **self._identity,
            **{name: paths.put_in(value) for name, value in own.items()},
        }
        if "command" not in spec:
            raise UnsupportedError(f"the container {spec['name']} has no command of its own")
        given = [*spec["command"], *spec.get("args", [])]
        line = [paths.put_in(expand(each, own)) for each in given]
        paths.require_used(list(mounts))
        directory = image.directory(spec["workingDir"]) if "workingDir" in spec else Path("/")
        return Command(arguments or line, variables, directory)

    def _execute(self, container: Container, arguments: Sequence[str], seconds: float) -> int:
        """Run a command in the container; return its exit code."""
        command = self._command(container, arguments)
        line = command.resolved(self._node.image)
        if line is None:
            return 126
        return subprocess.run(
            line,
            env=dict(command.variables),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        ).returncode

    def _watch(self, container: Container) -> None:
        """Begin with the container's probes."""
        spec, tempo = container.spec, self._node.tempo.probe_at_most_every
        target = Target(
            self.address,
            {
                port["name"]: port["containerPort"]
                for port in spec.get("ports", [])
                if "name" in port
            },
            lambda command, seconds: self._execute(container, command, seconds),
        )
        watches: list[Watch] = []
        self._watches[container.name] = watches

        def probe(kind: str, turned: Callable[[bool, str], None]) -> None:
            # It may have ended, or even run again, by now.
            if self._watches.get(container.name) is watches:
                watches.append(Watch(spec[kind], target, turned, tempo))

        def failed(kind: str, words: str) -> None:
            self._event(f"{kind} of {container.name} failed: {words}")
            grace = spec[kind].get("terminationGracePeriodSeconds", self._spec_grace())
            container.stop(float(grace))

        def alive(good: bool, words: str) -> None:
            if not good:
                failed("livenessProbe", words)

        def readiness(good: bool, words: str) -> None:
            container.ready = good
            self._wake.set()

        def begun() -> None:
            container.started = True
            if "livenessProbe" in spec:
                probe("livenessProbe", alive)
            if "readinessProbe" in spec:
                probe("readinessProbe", readiness)
            else:
                container.ready = True
            self._wake.set()

        def started(good: bool, words: str) -> None:
            if good:
                watches[0].stop()
                begun()
            else:
                failed("startupProbe", words)

        if "startupProbe" in spec:
            probe("startupProbe", started)
        else:
            begun()

    def _unwatch(self, container: Container) -> None:
        for watch in self._watches.pop(container.name, []):
            watch.stop()

    def _event(self, message: str) -> None:
        """Tell of what befell the pod, as an event."""
        metadata = self.pod["metadata"]
        event = {
            "metadata": {"generateName": f"{self.name}.", "namespace": self.namespace},
            "involvedObject": {
                "kind": "Pod",
                "namespace": self.namespace,
                "name": self.name,
                "uid": metadata["uid"],
            },
            "reason": "Unhealthy",
            "type": "Warning",
            "message": message[:1024],
            "source": {"component": "kubelet"},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        with contextlib.suppress(ApiError):
            self._node.api.create(f"/api/v1/namespaces/{self.namespace}/events", event)

    def _after_exit(self, container: Container) -> None:
        """Note when a container that has ended may run again."""
        self._unwatch(container)
        ended = time.monotonic()
        if container.restart_at and ended - container.restart_at > _BACK_OFF_RESET:
            container.failures = 0
        # The first restart is at once.
        wait = 0.0
        if container.failures:
            wait = self._node.tempo.back_off_seconds * 2 ** (container.failures - 1)
        container.failures += 1
        container.restart_at = ended + min(wait, _BACK_OFF_MAXIMUM)
        if self._may_restart(container) and wait:
            container.last_state = container.state
            container.restarts += 1
            container.state = waiting(
                "CrashLoopBackOff", f"back-off {wait:g}s restarting failed container"
            )

    def _may_restart(self, container: Container) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" and container in self.containers:
            return True
        return policy != "Never" and container.exit_code != 0

    def _restart_due(self, container: Container) -> bool:
        return (
            not container.running
            and container.restart_at > 0
            and self._may_restart(container)
            and time.monotonic() >= container.restart_at
        )

    def _pause(self, seconds: float = _LOOK_SECONDS) -> None:
        """Wait a little; raise _Deleted when the pod is to go, _Gone when the node goes down."""
        self._wake.wait(seconds)
        self._wake.clear()
        if self._abandoned.is_set():
            raise _Gone
        if self._grace is not None:
            raise _Deleted

    def _sources(self) -> Sources:
        def read(kind: str) -> Callable[[str], Object | None]:
            def one(name: str) -> Object | None:
                try:
                    return self._node.api.get(f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")
                except ApiError as error:
                    if error.status == 404:
                        return None
                    raise

            return one

        return Sources(
            self.pod, self.address, self._node.host_address, read("secrets"), read("configmaps")
        )

    def _token(self, wanted: Object) -> str:
        return token_for(
            self._node.api, self.pod, wanted.get("audience"), wanted.get("expirationSeconds", 3600)
        )

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    def _report(self, reason: str = "", message: str = "") -> bool:
        """Tell the API how the pod is, where that has changed; return whether it knows.

        Raises _Gone.
        """
        status = self._status()
        if reason:
            status |= {"reason": reason, "message": message}
        if status == self._reported:
            return True
        body = {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status}
        try:
            self._node.api.patch(f"{self._path()}/status", body)
        except ApiError as error:
            if error.status in (404, 409) and not self._is_there():
                raise _Gone from None
            if 400 <= error.status < 500 and error.status != 409:
                raise
            return False  # the API is away or busy; we go on, and tell it later
        self._reported = status
        return True

    def _is_there(self) -> bool:
        """Return whether the API still has this pod, and not another of its name."""
        try:
            found = self._node.api.get(self._path())
        except ApiError as error:
            return error.status != 404
        return found["metadata"]["uid"] == self.pod["metadata"]["uid"]

    def _status(self) -> Object:
        ended = self._phase in ("Succeeded", "Failed")
        initialised = all(each.exit_code == 0 for each in self.init_containers)
        unready = [each.name for each in self.containers if not each.ready]
        conditions = {
            "PodReadyToStartContainers": (bool(self._volumes) or not ended, ""),
            "Initialized": (initialised, "PodCompleted" if self._phase == "Succeeded" else ""),
        }
        for name in ("ContainersReady", "Ready"):
            reason = "PodCompleted" if self._phase == "Succeeded" else "ContainersNotReady"
            conditions[name] = (not unready, reason if unready else "")
        return {
            "phase": self._phase,
            "startTime": self._started_at,
            "hostIP": self._node.host_address,
            "hostIPs": [{"ip": self._node.host_address}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [
                self._condition(name, good, reason, unready)
                for name, (good, reason) in conditions.items()
            ],
            "initContainerStatuses": [each.status() for each in self.init_containers],
            "containerStatuses": [each.status() for each in self.containers],
        }

    def _condition(self, name: str, good: bool, reason: str, unready: Sequence[str]) -> Object:
        status = "True" if good else "False"
        if self._since.get(name, ("", ""))[0] != status:
            self._since[name] = status, now()
        words = ""
        if reason == "ContainersNotReady":
            words = f"containers with unready status: [{' '.join(unready)}]"
        return {
            "type": name,
            "status": status,
            "lastTransitionTime": self._since[name][1],
            "reason": reason,
            "message": words,
        }


def token_for(api: Api, pod: Object, audience: str | None, seconds: int) -> str:
    """Return a new token of a pod's service account, good for as long as the pod lives."""
    metadata = pod["metadata"]
    account = pod["spec"].get("serviceAccountName", "default")
    spec: Object = {
        "expirationSeconds": seconds,
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    if audience is not None:
        spec["audiences"] = [audience]
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
    return api.create(path, request)["status"]["token"]
