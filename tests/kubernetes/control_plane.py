"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager.

There is no scheduler and no kubelet: `tests.kubernetes.node` stands in for both. What is not on by
default on EKS is not on here either; pod security is by the namespaces' labels.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client, config

from tests.kubernetes.api import Api
from tests.kubernetes.certificates import Authority, write_key
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"

_READY_SECONDS = 60
_STOP_SECONDS = 3
"""The API server waits for watches to end by themselves; nothing of it is kept."""

_ISSUER = "https://kubernetes.default.svc"


class ControlPlaneError(Exception):
    """A part of the control plane did not start; the message has the end of its log."""


@dataclass
class Part:
    """One running program of the control plane."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require_running(self) -> None:
        if self.process.poll() is not None:
            end = self.log.read_text(errors="replace")[-3000:]
            raise ControlPlaneError(
                f"{self.name} ended with exit code {self.process.returncode}:\n{end}"
            )


@dataclass
class ControlPlane:
    """A running control plane; everything of it lies in `directory`."""

    directory: Path
    url: str
    authority: Path
    """PEM file of whom to trust."""
    token: str
    """Lets in as an administrator."""
    parts: list[Part] = field(default_factory=list[Part])

    @property
    def kubeconfig(self) -> Path:
        """A file that lets `kubectl`, client libraries and Pulumi in as an administrator."""
        return self.directory / "kubeconfig.yaml"

    def client(self) -> client.ApiClient:
        """Return a client of the API that comes in as an administrator."""
        return config.new_client_from_config(str(self.kubeconfig))

    @cached_property
    def api(self) -> Api:
        """The API by plain requests, as an administrator."""
        return Api(self.url, self.token, self.authority)

    def create_namespace(self, name: str, pod_security: str = "restricted") -> None:
        """Create a namespace that enforces a pod security standard, with its service account."""
        labels = {"pod-security.kubernetes.io/enforce": pod_security}
        metadata = {"name": name, "labels": labels}
        self.api.apply(
            f"/api/v1/namespaces/{name}",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata},
        )
        self.wait_until(
            lambda: self.api.answers(f"/api/v1/namespaces/{name}/serviceaccounts/default"),
            f"the service account of the namespace {name}",
        )

    def log(self, part: str) -> str:
        """Return what `etcd`, `kube-apiserver` or `kube-controller-manager` has written."""
        return (self.directory / f"{part}.log").read_text(errors="replace")

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the condition holds; raise ControlPlaneError if it does not in time."""
        deadline = time.monotonic() + _READY_SECONDS
        while not condition():
            for part in self.parts:
                part.require_running()
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"{what} did not come within {_READY_SECONDS} s")
            time.sleep(0.05)

    def start(self, name: str, *flags: str, **variables: str) -> None:
        """Start a program of the control plane; raise ControlPlaneError where it is missing."""
        program = TOOLS / "bin" / name
        found = str(program) if program.exists() else shutil.which(name)
        if found is None:
            raise ControlPlaneError(f"{name} is missing: run `make test-tools` first")
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [found, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                # Nothing of the machine's own: no proxy, no configuration of a cluster.
                env={"PATH": os.defpath, "HOME": str(self.directory), **variables},
            )
        self.parts.append(Part(name, process, log))

    def stop(self) -> None:
        """End all parts, those that need the others first."""
        for part in reversed(self.parts):
            part.process.terminate()
            try:
                part.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                part.process.kill()
                part.process.wait()


@contextmanager
def running_control_plane(directory: Path, *, definitions: bool = True) -> Iterator[ControlPlane]:
    """Run a control plane whose files lie in `directory`, until the context ends.

    With `definitions` it has the custom resource definitions of `.tools/crds`. Raises
    ControlPlaneError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority(directory, "kubernetes")
    url = f"https://127.0.0.1:{free_port()}"
    plane = ControlPlane(directory, url, authority.certificate, secrets.token_urlsafe(24))
    controllers_token = secrets.token_urlsafe(24)
    _write_credentials(plane, controllers_token)
    try:
        store = _start_etcd(plane)
        _start_api_server(plane, authority, store)
        plane.wait_until(lambda: plane.api.answers("/readyz"), "the API")
        _start_controllers(plane)
        if definitions:
            load_definitions(plane)
        plane.wait_until(
            lambda: plane.api.answers("/api/v1/namespaces/default/serviceaccounts/default"),
            "the first service account",
        )
        yield plane
    finally:
        plane.stop()


def load_definitions(plane: ControlPlane) -> None:
    """Apply the custom resource definitions of `.tools/crds`; wait until their kinds are served."""
    files = sorted((TOOLS / "crds").glob("*/*.yaml"))
    if not files:
        raise ControlPlaneError(f"{TOOLS / 'crds'} is empty: run `make test-tools` first")
    collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

    def load(file: Path) -> None:
        # As the vendors name their files; the server, not we, reads the YAML.
        group, _, plural = file.stem.partition("_")
        name = f"{plural}.{group}"
        spec = plane.api.apply(f"{collection}/{name}", file.read_bytes())["spec"]
        version = next(each["name"] for each in spec["versions"] if each["served"])
        path = f"/apis/{group}/{version}/{plural}"
        plane.wait_until(lambda: plane.api.answers(path), f"the custom resource {name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load, files))


def _write_credentials(plane: ControlPlane, controllers_token: str) -> None:
    tokens = plane.directory / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(
        f'{plane.token},administrator,administrator,"system:masters"\n'
        f"{controllers_token},system:kube-controller-manager,controllers\n"
    )
    _write_kubeconfig(plane, plane.kubeconfig, plane.token)
    _write_kubeconfig(plane, plane.directory / "controllers.yaml", controllers_token)
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(key, plane.directory / "service-accounts-key.pem")
    (plane.directory / "service-accounts.pem").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _write_kubeconfig(plane: ControlPlane, file: Path, token: str) -> None:
    cluster = {"server": plane.url, "certificate-authority": str(plane.authority)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "loopback", "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "user"}}],
        "current-context": "loopback",
    }
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(document))


def _start_etcd(plane: ControlPlane) -> str:
    """Start etcd; return its URL."""
    clients, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    plane.start(
        "etcd",
        f"--data-dir={plane.directory / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return clients


def _start_api_server(plane: ControlPlane, authority: Authority, store: str) -> None:
    certificate, key = authority.issue("api", ["127.0.0.1", "localhost"])
    plane.start(
        "kube-apiserver",
        f"--etcd-servers={store}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={plane.url.rpartition(':')[2]}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--token-auth-file={plane.directory / 'tokens.csv'}",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={_ISSUER}",
        f"--service-account-key-file={plane.directory / 'service-accounts.pem'}",
        f"--service-account-signing-key-file={plane.directory / 'service-accounts-key.pem'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        # What this would write is of no use to pods on loopback, and it refuses such an address.
        "--endpoint-reconciler-type=none",
    )


def _start_controllers(plane: ControlPlane) -> None:
    plane.start(
        "kube-controller-manager",
        f"--kubeconfig={plane.directory / 'controllers.yaml'}",
        f"--service-account-private-key-file={plane.directory / 'service-accounts-key.pem'}",
        f"--root-ca-file={plane.authority}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        # Understood by what `make test-tools` builds; a release waits for ten seconds.
        JOB_POD_FAILURE_BACK_OFF="1s",
    )
