# ruff: noqa: ARG002, N802, the signatures and names are given
"""A stand-in for the Kubernetes provider, for the real engine to talk to, over a real API server.

Every object goes to the server by server-side apply, in previews as a dry run: what the server
refuses fails the update, with its words. Names, replacements, waiting, secrets and errors are those
of pulumi-kubernetes 4; README.md lists what differs.
"""

from __future__ import annotations

import importlib.metadata
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    plugin_pb2,
    provider_pb2,
)

from tests.stacks.kubernetes import helm
from tests.stacks.kubernetes.api import (
    Answer,
    Api,
    ApiError,
    NoSuchKindError,
    Object,
    UnreachableError,
)
from tests.stacks.kubernetes.awaiting import (
    NotReadyError,
    allowed_seconds,
    annotation,
    fully_named,
    skips_waiting,
    state_of,
    wait,
    wait_until_gone,
)
from tests.stacks.kubernetes.changes import (
    differences,
    is_custom,
    normalised,
    pruned,
    replaces,
    replacing_paths,
    shown,
)
from tests.stacks.kubernetes.cluster import Cluster, server_of
from tests.stacks.kubernetes.host import Host
from tests.stacks.kubernetes.objects import (
    cleaned,
    identified,
    in_namespace,
    live_inputs,
    named,
    renamed,
    state_with,
    with_inputs,
)
from tests.stacks.kubernetes.partial import PartialError, init_failed, status_of
from tests.stacks.kubernetes.properties import (
    Tree,
    decoded,
    encoded,
    is_known,
    kept_secret,
    revealed,
)
from tests.stacks.stand_in import Service, name_of, token, told

_OURS = ("__inputs", "__initialApiVersion", "__fieldManager")
_REFUSALS = (ApiError, NoSuchKindError, UnreachableError, NotReadyError, ValueError)
_TRIES = 5


class KubernetesStandIn(Service):
    """The gRPC service over one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._host = Host()
        self._cancelled = threading.Event()

    # What is asked of the provider itself.

    def Attach(self, request: Any, context: Any) -> Any:
        self._cancelled.clear()
        self._host.attach(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi-kubernetes"))

    def Cancel(self, request: Any, context: Any) -> Any:
        self._cancelled.set()
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        """Another cluster replaces the provider and what is in it; all else changes in place."""
        old, new = revealed(decoded(request.old_inputs)), revealed(decoded(request.news))
        changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if not changed:
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)
        if "clusterIdentifier" in old and "clusterIdentifier" in new:
            moved = "clusterIdentifier" in changed
        else:
            moved = not is_known(new.get("kubeconfig")) or server_of(old) != server_of(new)
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME,
            diffs=changed,
            replaces=changed if moved else [],
        )

    def Configure(self, request: Any, context: Any) -> Any:
        with told(context, "configure", _REFUSALS):
            self.cluster.connect(revealed(decoded(request.args)))
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Invoke(self, request: Any, context: Any) -> Any:
        with told(context, request.tok, _REFUSALS):
            if request.tok != "kubernetes:yaml:decode":
                raise ValueError("the stand-in does not know this function")
            text = revealed(decoded(request.args))["text"]
            response = provider_pb2.InvokeResponse()
            documents = [each for each in yaml.safe_load_all(text) if each]
            # The field's name is a word of Python.
            getattr(response, "return").CopyFrom(encoded({"result": documents}))
            return response
        return None

    # What is asked of a resource.

    def Check(self, request: Any, context: Any) -> Any:
        with told(context, request.urn, _REFUSALS):
            old, new = decoded(request.olds), decoded(request.news)
            name, suffix = name_of(request.urn), bytes(request.randomSeed).hex()[:8]
            suffix = suffix or secrets.token_hex(4)
            if token(request.urn) == helm.TYPE:
                inputs, wrong = self.cluster.releases.check(old, new, name, suffix)
            else:
                inputs, wrong = named(old, new, name, suffix), {}
                if self.cluster.options.namespace and self._is_namespaced(inputs):
                    inputs["metadata"].setdefault("namespace", self.cluster.options.namespace)
            failures = [
                provider_pb2.CheckFailure(property=key, reason=reason)
                for key, reason in wrong.items()
            ]
            kept = encoded(kept_secret(revealed(inputs), inputs))
            return provider_pb2.CheckResponse(inputs=kept, failures=failures)
        return None

    def _is_namespaced(self, inputs: Tree) -> bool:
        declared = revealed(inputs)
        return self.cluster.has_kind(declared) and self.cluster.require().of(declared)[0].namespaced

    def Diff(self, request: Any, context: Any) -> Any:
        with told(context, request.urn, _REFUSALS):
            if token(request.urn) == helm.TYPE:
                return self._diff_release(request)
            return self._diff_object(request)
        return None

    def _diff_release(self, request: Any) -> Any:
        old, new = revealed(decoded(request.old_inputs)), revealed(decoded(request.news))
        changed = differences(old, new, custom=True)
        changed = {path: kind for path, kind in changed.items() if path[0] != "__defaults"}
        return _diff_response(changed, [(name,) for name in helm.REPLACING], before=False)

    def _diff_object(self, request: Any) -> Any:
        state, new = revealed(decoded(request.olds)), normalised(revealed(decoded(request.news)))
        old_inputs = normalised(state.get("__inputs", {}))
        old = pruned({key: state[key] for key in state if key not in _OURS}, old_inputs)
        new = in_namespace(new)
        old = in_namespace(old)
        options = self.cluster.options
        changed = differences(old, new, custom=is_custom(new))
        paths = replacing_paths(
            new,
            mutable_secrets=options.mutable_secrets,
            mutable_config_maps=options.mutable_config_maps,
        )
        if annotation(new, "replaceUnready") == "true" and new["kind"] == "Job":
            changed |= self._unready(new)
            paths.append(_REPLACE_UNREADY)
        identity = ("name", "namespace")
        stays = all(old["metadata"].get(key) == new["metadata"].get(key) for key in identity)
        autonamed = annotation(new, "autonamed") == "true"
        return _diff_response(changed, paths, before=stays and not autonamed)

    def _unready(self, declared: Object) -> dict[tuple[str | int, ...], str]:
        try:
            api = self.cluster.require()
            ready = state_of(api, api.get(declared)).ready
        except (ApiError, NoSuchKindError, UnreachableError):
            return {}
        return {} if ready else {_REPLACE_UNREADY: "update"}

    def Create(self, request: Any, context: Any) -> Any:
        urn, inputs = request.urn, decoded(request.properties)
        with self._told(context, urn):
            if token(urn) == helm.TYPE:
                return self._create_release(request, inputs)
            declared = revealed(inputs)
            as_given = provider_pb2.CreateResponse(id="", properties=request.properties)
            if request.preview and not (is_known(inputs) and self.cluster.has_kind(declared)):
                return as_given
            api = self.cluster.require()
            manager = f"pulumi-kubernetes-{secrets.token_hex(4)}"
            try:
                live = self._create(api, urn, declared, manager, preview=request.preview)
            except ApiError as error:
                if request.preview and _previews_alone(error):
                    return as_given
                raise
            if request.preview:
                live.pop("status", None)
                properties = encoded(state_with(declared, live, inputs, manager))
                return provider_pb2.CreateResponse(id="", properties=properties)
            id_ = fully_named(live)
            live = self._await(
                urn, id_, declared, inputs, manager, request.timeout, live, "created"
            )
            properties = encoded(state_with(declared, live, inputs, manager))
            return provider_pb2.CreateResponse(id=id_, properties=properties)
        return None

    def _create_release(self, request: Any, inputs: Tree) -> Any:
        releases = self.cluster.releases
        if request.preview:
            properties = encoded(with_inputs(releases.state(inputs), inputs))
            return provider_pb2.CreateResponse(id="", properties=properties)
        id_, state = releases.create(self.cluster.require(), inputs)
        return provider_pb2.CreateResponse(id=id_, properties=encoded(with_inputs(state, inputs)))

    def _create(
        self, api: Api, urn: str, declared: Object, manager: str, *, preview: bool
    ) -> Object:
        """Apply an object that must not be there yet; what it lies in may be a moment late."""
        for attempt in range(_TRIES):
            try:
                if not preview and not self.cluster.options.upsert:
                    _require_absent(api, declared)
                force = preview or self._forces(declared)
                return self._noted(urn, api.apply(declared, manager, dry_run=preview, force=force))
            except (ApiError, NoSuchKindError) as error:
                if preview and "field is immutable" in str(error):
                    # The old one is still there; the update will have deleted it by then.
                    beside = api.apply(renamed(declared), manager, dry_run=True, force=True)
                    found = self._noted(urn, beside)
                    found["metadata"]["name"] = declared["metadata"]["name"]
                    return found
                missing = isinstance(error, NoSuchKindError) or error.status == 404
                if preview or not missing or attempt == _TRIES - 1:
                    raise
                self._host.log(urn, f"Retry #{attempt}; creation failed: {error}")
                time.sleep(0.3 * 2**attempt)
        raise AssertionError

    def Update(self, request: Any, context: Any) -> Any:
        urn, state, inputs = request.urn, decoded(request.olds), decoded(request.news)
        with self._told(context, urn):
            declared = revealed(inputs)
            if token(urn) == helm.TYPE:
                return self._update_release(request, inputs)
            if request.preview and not (is_known(inputs) and self.cluster.has_kind(declared)):
                return provider_pb2.UpdateResponse(properties=request.news)
            api = self.cluster.require()
            manager = str(state["__fieldManager"])
            if declared["kind"] == "CustomResourceDefinition":
                # Replaced whole, lest fields of older versions stay.
                version = api.get(declared)["metadata"]["resourceVersion"]
                metadata = {**declared["metadata"], "resourceVersion": version}
                placed = {**declared, "metadata": metadata}
                answer = api.replace(placed, manager, dry_run=request.preview)
            else:
                force = self._forces(declared)
                answer = api.apply(declared, manager, dry_run=request.preview, force=force)
            live = self._noted(urn, answer)
            if not request.preview:
                live = self._await(
                    urn, request.id, declared, inputs, manager, request.timeout, live, "updated"
                )
            properties = encoded(state_with(declared, live, inputs, manager))
            return provider_pb2.UpdateResponse(properties=properties)
        return None

    def _update_release(self, request: Any, inputs: Tree) -> Any:
        releases = self.cluster.releases
        if request.preview:
            state = releases.state(inputs)
        else:
            self.cluster.require()
            state = releases.update(request.id, inputs)
        return provider_pb2.UpdateResponse(properties=encoded(with_inputs(state, inputs)))

    def Read(self, request: Any, context: Any) -> Any:
        urn, state, inputs = request.urn, decoded(request.properties), decoded(request.inputs)
        gone = provider_pb2.ReadResponse(id="")
        with self._told(context, urn):
            if self.cluster.api is None and self.cluster.options.delete_unreachable:
                return gone
            api = self.cluster.require()
            if token(urn) == helm.TYPE:
                return self._read_release(request, inputs, gone)
            declared = revealed(inputs) or identified(urn, request.id, revealed(state))
            try:
                live = api.get(declared)
            except (ApiError, NoSuchKindError) as error:
                if isinstance(error, ApiError) and error.status != 404:
                    raise
                return gone
            manager = str(state.get("__fieldManager", "pulumi-kubernetes"))
            now = live_inputs(live, revealed(inputs)) if inputs else cleaned(live)
            properties = state_with(now, live, inputs, manager)
            if inputs and not skips_waiting(declared):
                found = state_of(api, live)
                if not found.ready and live["kind"] in _READ_AWAITED:
                    self._abort_partial(
                        request.id,
                        f"{fully_named(declared)} is not ready: {found.waiting_for}",
                        found.problems,
                        properties,
                        kept_secret(now, inputs),
                    )
            return provider_pb2.ReadResponse(
                id=request.id,
                properties=encoded(properties),
                inputs=encoded(kept_secret(now, inputs)),
            )
        return None

    def _read_release(self, request: Any, inputs: Tree, gone: Any) -> Any:
        if request.id not in self.cluster.releases.live:
            return gone
        state = self.cluster.releases.state(inputs, request.id)
        return provider_pb2.ReadResponse(
            id=request.id,
            properties=encoded(with_inputs(state, inputs)),
            inputs=encoded(inputs),
        )

    def Delete(self, request: Any, context: Any) -> Any:
        with self._told(context, request.urn):
            if self.cluster.api is None and self.cluster.options.delete_unreachable:
                return empty_pb2.Empty()
            api = self.cluster.require()
            if token(request.urn) == helm.TYPE:
                self.cluster.releases.live.pop(request.id, None)
                return empty_pb2.Empty()
            state = revealed(decoded(request.properties))
            declared = identified(request.urn, request.id, state)
            try:
                live = api.get(declared)
                api.delete(declared)
            except (ApiError, NoSuchKindError) as error:
                if isinstance(error, ApiError) and error.status != 404:
                    raise
                return empty_pb2.Empty()
            if not skips_waiting(live):
                seconds = allowed_seconds(live, request.timeout, min(300, self.cluster.patience))
                uid = live["metadata"]["uid"]
                wait_until_gone(api, declared, uid, seconds, self._cancelled.is_set)
            return empty_pb2.Empty()
        return None

    # What they have in common.

    def _forces(self, declared: Object) -> bool:
        return self.cluster.options.force or annotation(declared, "patchForce") == "true"

    def _noted(self, urn: str, answer: Answer) -> Object:
        for warning in answer.warnings:
            self.cluster.warnings.setdefault(name_of(urn), []).append(warning)
            self._host.log(urn, warning, warning=True)
        return answer.document

    def _await(
        self,
        urn: str,
        id_: str,
        declared: Object,
        inputs: Tree,
        manager: str,
        timeout: float,
        live: Object,
        done: str,
    ) -> Object:
        """Return the object once it is ready; else end the call, with its state as it is."""
        api = self.cluster.require()
        if not skips_waiting(declared):
            seconds = allowed_seconds(declared, timeout, self.cluster.patience)

            def report(text: str) -> None:
                self._host.log(urn, text)

            try:
                wait(api, declared, seconds, self._cancelled.is_set, report)
            except NotReadyError as error:
                self._abort_partial(
                    id_,
                    f"resource {id_} was successfully {done}, but the Kubernetes API server "
                    f"reported that it failed to fully initialize or become live: {error}",
                    error.reasons,
                    state_with(declared, api.get(declared), inputs, manager),
                    inputs,
                )
        try:
            return api.get(declared)
        except ApiError:
            return live

    def _abort_partial(
        self, id_: str, message: str, reasons: list[str], state: Tree, inputs: Tree
    ) -> None:
        raise PartialError(
            message,
            init_failed(id_, [message, *reasons], state, inputs),
        )

    @contextmanager
    def _told(self, context: Any, urn: str) -> Iterator[None]:
        with told(context, name_of(urn), _REFUSALS):
            try:
                yield
            except PartialError as error:
                context.abort_with_status(status_of(error))


_REPLACE_UNREADY = ("metadata", "annotations", "pulumi.com/replaceUnready")
_READ_AWAITED = frozenset({"DaemonSet", "Deployment", "Job", "Pod", "Service", "StatefulSet"})


def _previews_alone(error: ApiError) -> bool:
    """Tell whether a refused dry run says nothing of the update: what it needs comes with it."""
    return error.status in (403, 404, 409)


def _require_absent(api: Api, declared: Object) -> None:
    try:
        api.get(declared)
    except ApiError as error:
        if error.status == 404:
            return
        raise
    raise ValueError(
        f"{declared['kind']} {fully_named(declared)} already exists; import it, or set "
        "upsertExistingObjects on the provider"
    )


def _diff_response(
    changed: dict[tuple[str | int, ...], str],
    paths: list[tuple[str | int, ...]],
    *,
    before: bool,
) -> Any:
    if not changed:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)
    kinds = provider_pb2.PropertyDiff.Kind
    detailed: dict[str, Any] = {}
    replacing: list[str] = []
    for path, kind in changed.items():
        moved = replaces(path, paths)
        replacing += [shown(path)] if moved else []
        value = kinds.Value(f"{kind.upper()}_REPLACE" if moved else kind.upper())
        detailed[shown(path)] = provider_pb2.PropertyDiff(kind=value)
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME,
        diffs=sorted({str(path[0]) for path in changed}),
        replaces=sorted(replacing),
        detailedDiff=detailed,
        hasDetailedDiff=True,
        deleteBeforeReplace=bool(replacing) and before,
    )
