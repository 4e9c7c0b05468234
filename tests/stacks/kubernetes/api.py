"""The Kubernetes API as the stand-in for the provider uses it: plain requests, the server's words.

A kubeconfig is read as client-go reads it: a token, a client certificate, or a command that prints
an ExecCredential.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
import yaml

Object = dict[str, Any]

_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


class ApiError(Exception):
    """What the server refused; the message is the server's."""

    def __init__(self, status: int, body: Mapping[str, Any] | str) -> None:
        document = body if isinstance(body, Mapping) else {"message": body}
        self.status = status
        self.reason: str = str(document.get("reason", ""))
        super().__init__(str(document.get("message") or f"the server answered with {status}"))


class NoSuchKindError(Exception):
    """The server has no such kind: a custom resource without its definition."""


class UnreachableError(Exception):
    """There is no server, or it lets nobody in."""


@dataclass(frozen=True)
class Kind:
    """A kind that the server has: its plural, and whether its objects lie in namespaces."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of an object, or of all objects."""
        group = "apis" if "/" in self.api_version else "api"
        parts = [group, *self.api_version.split("/")]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *([name] if name else [])]
        return "/" + "/".join(quote(part, safe="") for part in parts)


@dataclass
class Answer:
    """What the server said: a document, and its warnings."""

    document: Object
    warnings: list[str] = field(default_factory=list)


class Api:
    """One server, seen with the credentials of a kubeconfig.

    `commands` is a folder whose programs are found before those of PATH when the kubeconfig asks
    for credentials by a command.
    """

    def __init__(self, kubeconfig: str, context: str = "", commands: Path | None = None) -> None:
        config = _config(kubeconfig)
        try:
            self._context = _named(config["contexts"], context or config["current-context"])
            cluster = _named(config["clusters"], self._context["context"]["cluster"])["cluster"]
            user = _named(config["users"], self._context["context"]["user"])["user"]
        except (KeyError, TypeError, StopIteration) as error:
            raise UnreachableError(f"the kubeconfig lacks {error}") from None
        self.server: str = cluster["server"].rstrip("/")
        headers = {"Accept": "application/json", "User-Agent": "pulumi-kubernetes"}
        token = _token(user, commands)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            maxsize=32,
            headers=headers,
            ssl_context=_tls(cluster, user),
            retries=urllib3.Retry(0, connect=2, read=2, redirect=0, backoff_factor=0.2),
        )
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._lock = threading.Lock()

    @property
    def namespace(self) -> str:
        """The namespace of the context."""
        return self._context["context"].get("namespace", "")

    def version(self) -> str:
        """Return the server's version; raises UnreachableError."""
        try:
            # Unlike /version, this takes credentials that are good.
            self.request("GET", "/api")
            return self.request("GET", "/version").document["gitVersion"]
        except (urllib3.exceptions.HTTPError, ApiError) as error:
            raise UnreachableError(str(error)) from error

    def kind(self, api_version: str, kind: str) -> Kind:
        """Look a kind up; raises NoSuchKindError."""
        with self._lock:
            if (api_version, kind) not in self._kinds:
                self._discover(api_version)
            try:
                return self._kinds[api_version, kind]
            except KeyError:
                raise NoSuchKindError(
                    f'no matches for kind "{kind}" in version "{api_version}"'
                ) from None

    def _discover(self, api_version: str) -> None:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            found = self.request("GET", path).document["resources"]
        except ApiError as error:
            if error.status != 404:
                raise
            return
        for each in found:
            if "/" not in each["name"]:
                known = Kind(api_version, each["kind"], each["name"], each["namespaced"])
                self._kinds[api_version, each["kind"]] = known

    def of(self, declared: Object) -> tuple[Kind, str, str]:
        """Return kind, namespace (if any) and name of an object; raises NoSuchKindError."""
        kind = self.kind(declared["apiVersion"], declared["kind"])
        metadata = declared.get("metadata", {})
        namespace = (metadata.get("namespace") or "default") if kind.namespaced else ""
        return kind, namespace, metadata.get("name", "")

    def get(self, declared: Object) -> Object:
        """Return the object as it is."""
        kind, namespace, name = self.of(declared)
        return self.request("GET", kind.path(namespace, name)).document

    def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        """Return the objects of a kind in a namespace."""
        query = {"labelSelector": selector} if selector else {}
        return self.request("GET", kind.path(namespace), query).document["items"]

    def apply(self, declared: Object, manager: str, *, dry_run: bool, force: bool) -> Answer:
        """Apply an object on the server's side; unknown and repeated fields are refused."""
        kind, namespace, name = self.of(declared)
        query = {
            "fieldManager": manager,
            "fieldValidation": "Strict",
            "force": "true" if force else "false",
            **({"dryRun": "All"} if dry_run else {}),
        }
        # The server takes names of objects in the lists of the core group only in full.
        return self.request("PATCH", kind.path(namespace, name), query, declared)

    def replace(self, declared: Object, manager: str, *, dry_run: bool) -> Answer:
        """Put an object in the place of the one of its name."""
        kind, namespace, name = self.of(declared)
        query = {"fieldManager": manager, **({"dryRun": "All"} if dry_run else {})}
        return self.request("PUT", kind.path(namespace, name), query, declared)

    def delete(self, declared: Object) -> None:
        """Start to delete an object; what belongs to it goes first."""
        kind, namespace, name = self.of(declared)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        self.request("DELETE", kind.path(namespace, name), {}, options)

    def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Answer:
        """Send one request; raises ApiError for any answer but a good one."""
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = dict(self._pool.headers)
        if body is not None:
            # JSON is YAML too.
            kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
            headers["Content-Type"] = kind
        data = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(
            method, url, body=data, headers=headers, timeout=urllib3.Timeout(connect=5, read=60)
        )
        text = answer.data.decode()
        try:
            document: Any = json.loads(text)
        except ValueError:
            document = text
        if answer.status >= 400:
            raise ApiError(answer.status, document)
        warnings = _WARNING.findall(answer.headers.get("Warning", ""))
        return Answer(document, [warning.replace('\\"', '"') for warning in warnings])


def _config(kubeconfig: str) -> Any:
    """Return a kubeconfig, of its text or its path."""
    found = yaml.safe_load(kubeconfig)
    if isinstance(found, str) and Path(found).is_file():
        return yaml.safe_load(Path(found).read_text())
    return found


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _token(user: dict[str, Any], commands: Path | None) -> str:
    if "exec" not in user:
        return user.get("token", "")
    wanted = user["exec"]
    path = os.environ["PATH"]
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{path}" if commands else path}
    environment |= {each["name"]: each["value"] for each in wanted.get("env") or []}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(
        {
            "apiVersion": wanted["apiVersion"],
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
    )
    try:
        ran = subprocess.run(
            ["env", wanted["command"], *(wanted.get("args") or [])],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return json.loads(ran.stdout)["status"]["token"]
    except subprocess.CalledProcessError as error:
        raise UnreachableError(f"getting credentials: {error.stderr.strip()}") from None
    except (ValueError, KeyError) as error:
        raise UnreachableError(f"decoding credentials: {error}") from None


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif "certificate-authority-data" in cluster:
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        try:
            context.load_verify_locations(cadata=authority)
        except ssl.SSLError as error:
            raise UnreachableError(f"the cluster's certificate authority: {error}") from None
    elif "certificate-authority" in cluster:
        context.load_verify_locations(cafile=cluster["certificate-authority"])
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(base64.b64decode(user["client-certificate-data"]))
            file.write(base64.b64decode(user["client-key-data"]))
            file.flush()
            context.load_cert_chain(file.name)
    elif "client-certificate" in user:
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    return context
