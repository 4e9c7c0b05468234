"""The cluster that the stand-in for the provider is connected with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.stacks.kubernetes import helm
from tests.stacks.kubernetes.api import Api, NoSuchKindError, Object, UnreachableError
from tests.stacks.kubernetes.properties import Tree


@dataclass
class Options:
    """The provider's own settings, as Configure tells them."""

    force: bool = False
    mutable_secrets: bool = False
    mutable_config_maps: bool = False
    upsert: bool = False
    delete_unreachable: bool = False
    namespace: str = ""


@dataclass
class Cluster:
    """What the stand-in is connected with, and what it saw there.

    `commands` holds programs that a kubeconfig asks credentials of. `warnings` are the server's, by
    resource. `patience` is how many seconds an object is awaited for that says nothing of it.
    """

    commands: Path | None = None
    patience: float = 600
    releases: helm.Releases = field(default_factory=helm.Releases)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    api: Api | None = None
    unreachable: str = "not configured"
    options: Options = field(default_factory=Options)

    def connect(self, inputs: Tree) -> None:
        """Take the provider's settings; a cluster that cannot be reached is no error yet."""
        self.options = Options(
            force=_truth(inputs.get("enablePatchForce")),
            mutable_secrets=_truth(inputs.get("enableSecretMutable")),
            mutable_config_maps=_truth(inputs.get("enableConfigMapMutable")),
            upsert=_truth(inputs.get("upsertExistingObjects")),
            delete_unreachable=_truth(inputs.get("deleteUnreachable")),
            namespace=inputs.get("namespace", ""),
        )
        self.api, self.unreachable = None, ""
        try:
            api = Api(inputs.get("kubeconfig", ""), inputs.get("context", ""), self.commands)
            api.version()
        except UnreachableError as error:
            self.unreachable = str(error)
        else:
            self.api = api

    def require(self) -> Api:
        """Return the connection; raises UnreachableError."""
        if self.api is None:
            raise UnreachableError(
                f"configured Kubernetes cluster is unreachable: {self.unreachable}"
            )
        return self.api

    def has_kind(self, declared: Object) -> bool:
        """Tell whether the server can be asked about an object."""
        try:
            self.require().of(declared)
        except (UnreachableError, NoSuchKindError, KeyError):
            return False
        return True


def _truth(value: Any) -> bool:
    return value in (True, "true")


def server_of(config: Tree) -> Any:
    """Return the cluster that a provider's settings name, without its credentials."""
    try:
        kubeconfig = yaml.safe_load(config["kubeconfig"])
        name = config.get("context") or kubeconfig["current-context"]
        contexts = {each["name"]: each["context"] for each in kubeconfig["contexts"]}
        clusters = {each["name"]: each["cluster"] for each in kubeconfig["clusters"]}
        return clusters[contexts[name]["cluster"]]
    except (KeyError, TypeError, yaml.YAMLError):
        return None
