"""Helm releases, kept in memory: charts cannot be fetched here.

Checked: the arguments by name, a pinned version, a repository over TLS, values that are JSON, and
a namespace that is there. Not: the chart, its templates, what its values mean.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

from tests.stacks.kubernetes.api import Api, ApiError
from tests.stacks.kubernetes.properties import Tree, kept_secret, revealed

TYPE = "kubernetes:helm.sh/v3:Release"
REPLACING = frozenset({"name", "namespace"})

_VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?")
_ARGUMENTS = frozenset(
    {
        "allowNullValues",
        "atomic",
        "chart",
        "cleanupOnFail",
        "compat",
        "createNamespace",
        "dependencyUpdate",
        "description",
        "devel",
        "disableCRDHooks",
        "disableOpenapiValidation",
        "disableWebhooks",
        "forceUpdate",
        "keyring",
        "lint",
        "manifest",
        "maxHistory",
        "name",
        "namespace",
        "postrender",
        "recreatePods",
        "renderSubchartNotes",
        "replace",
        "repositoryOpts",
        "resetValues",
        "reuseValues",
        "skipAwait",
        "skipCrds",
        "takeOwnership",
        "timeout",
        "valueYamlFiles",
        "values",
        "verify",
        "version",
        "waitForJobs",
    }
)


@dataclass
class Release:
    """What was released; `values` are plain, secrets and all."""

    name: str
    namespace: str
    chart: str
    version: str
    repository: str
    values: dict[str, Any]
    revision: int = 1


@dataclass
class Releases:
    """The releases of a cluster, by `namespace/name`."""

    live: dict[str, Release] = field(default_factory=dict)

    def check(self, old: Tree, new: Tree, name: str, suffix: str) -> tuple[Tree, dict[str, str]]:
        """Return the inputs with defaults, and what is wrong with them by property."""
        inputs = {
            "name": revealed(old.get("name", f"{name}-{suffix}")),
            "namespace": "default",
            **({} if new.get("skipAwait") else {"timeout": 300}),
            **new,
        }
        return inputs, _failures(revealed(inputs))

    def create(self, api: Api, inputs: Tree) -> tuple[str, Tree]:
        """Release a chart; return its id and its state."""
        given = revealed(inputs)
        id_ = f"{given['namespace']}/{given['name']}"
        if id_ in self.live:
            raise ValueError("cannot re-use a name that is still in use")
        _require_namespace(api, given["namespace"], create=given.get("createNamespace", False))
        self.live[id_] = _release(given)
        return id_, self.state(inputs, id_)

    def update(self, id_: str, inputs: Tree) -> Tree:
        """Release it anew; return its state."""
        if id_ not in self.live:
            raise ValueError(f"{id_} has no deployed releases")
        release = _release(revealed(inputs))
        release.revision = self.live[id_].revision + 1
        self.live[id_] = release
        return self.state(inputs, id_)

    def state(self, inputs: Tree, id_: str = "") -> Tree:
        """Return the state of a release; in a preview, that is without an id, what is known."""
        state: Tree = {**revealed(inputs)}
        if id_:
            release = self.live[id_]
            state["resourceNames"] = {}
            state["status"] = {
                "appVersion": release.version,
                "chart": release.chart,
                "name": release.name,
                "namespace": release.namespace,
                "revision": release.revision,
                "status": "deployed",
                "version": release.version,
            }
        return kept_secret(state, inputs)


def _failures(inputs: Tree) -> dict[str, str]:
    failures = dict.fromkeys(inputs.keys() - _ARGUMENTS - {"__defaults"}, "no such argument")
    chart, options = str(inputs.get("chart", "")), inputs.get("repositoryOpts", {})
    url = urlparse(chart if "://" in chart else options.get("repo", ""))
    if url.scheme not in ("https", "oci") or not url.netloc:
        failures["repositoryOpts.repo"] = "the chart's repository is no https:// or oci:// URL"
    if not _VERSION.fullmatch(str(inputs.get("version", ""))):
        failures["version"] = "the chart's version is not pinned"
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?", inputs["name"]):
        failures["name"] = "a release's name has at most 53 lower case letters, digits and hyphens"
    if not isinstance(inputs.get("values", {}), dict):
        failures["values"] = "not an object"
    return failures


def _release(given: Tree) -> Release:
    chart = given["chart"]
    return Release(
        name=given["name"],
        namespace=given["namespace"],
        chart=chart.rsplit("/", 1)[-1],
        version=given["version"],
        repository=given.get("repositoryOpts", {}).get("repo", chart.rsplit("/", 1)[0]),
        values=json.loads(json.dumps(given.get("values", {}))),
    )


def _require_namespace(api: Api, name: str, *, create: bool) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        api.get(namespace)
    except ApiError as error:
        if error.status != 404 or not create:
            raise
        api.apply(namespace, "helm", dry_run=False, force=False)
