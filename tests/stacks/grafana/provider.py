# ruff: noqa: ARG002, the signatures are given
"""A stand-in for the Grafana provider, for the real engine to talk to: a Grafana in memory.

Refused: what the SDK's argument classes do not know, at any depth; texts that are to be JSON and
are not; a reference to a folder, a data source or a contact point that is not there; a second one
of what there is one of. Not checked: what a panel or a query means (tests/dashboards does).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.stacks.grafana.arguments import require_known
from tests.stacks.stand_in import GoneError, Inputs

FOLDER = "grafana:oss/folder:Folder"
DASHBOARD = "grafana:oss/dashboard:Dashboard"
DATA_SOURCE = "grafana:oss/dataSource:DataSource"
CONTACT_POINT = "grafana:alerting/contactPoint:ContactPoint"
POLICY = "grafana:alerting/notificationPolicy:NotificationPolicy"

_UID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_BUILT_IN = ("-- Grafana --", "-- Mixed --", "-- Dashboard --", "grafana")


@dataclass
class GrafanaBackend:
    """One Grafana; `live` are its things by type and id, `url` and `authentication` how it is
    reached."""

    url: str = ""
    authentication: str = ""
    live: dict[str, dict[str, Inputs]] = field(default_factory=dict)

    distribution = "pulumiverse-grafana"
    refusals = (ValueError,)

    def configure(self, inputs: Inputs) -> None:
        self.url, self.authentication = inputs.get("url", ""), inputs.get("auth", "")
        if not re.match(r"https?://[^/]", self.url):
            raise ValueError(f"the Grafana provider's url is no URL: {self.url!r}")
        if not self.authentication:
            raise ValueError("the Grafana provider has no auth")

    def check(self, type_: str, name: str, old: Inputs, new: Inputs, suffix: str) -> Inputs:
        if type_ not in _MADE:
            raise ValueError(f"the stand-in does not know the type {type_}")
        require_known(type_, new)
        # Grafana's own choices; kept from one preview to the next.
        chosen = {
            "uid": f"uid{suffix}" if type_ in (FOLDER, DATA_SOURCE) else None,
            "name": f"{name}-{suffix}" if type_ in (CONTACT_POINT, DATA_SOURCE) else None,
        }
        given = {key: old.get(key, value) for key, value in chosen.items() if value is not None}
        return {**given, **new}

    def replaces(self, type_: str, changed: set[str]) -> set[str]:
        return changed & {
            FOLDER: {"uid", "orgId"},
            DATA_SOURCE: {"uid", "orgId"},
            CONTACT_POINT: {"orgId"},
            POLICY: {"orgId"},
        }.get(type_, {"orgId"})

    def create(self, type_: str, inputs: Inputs) -> tuple[str, Inputs]:
        id_, outputs = _MADE[type_](self, inputs)
        if id_ in self._all(type_) and not inputs.get("overwrite"):
            raise ValueError(f"status: 409, there is a {type_} {id_} already")
        self._all(type_)[id_] = inputs
        return f"1:{id_}", outputs

    def read(self, type_: str, id_: str, state: Inputs) -> Inputs:
        live = self._all(type_).get(id_.removeprefix("1:"))
        if live is None:
            raise GoneError
        return live

    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs:
        if id_.removeprefix("1:") not in self._all(type_):
            raise ValueError(f"status: 404, there is no {type_} {id_}")
        del self._all(type_)[id_.removeprefix("1:")]
        made, outputs = _MADE[type_](self, new)
        self._all(type_)[made] = new
        return outputs

    def delete(self, type_: str, id_: str, state: Inputs) -> None:
        key = id_.removeprefix("1:")
        if type_ == FOLDER and state.get("preventDestroyIfNotEmpty"):
            left = [uid for uid, each in self._all(DASHBOARD).items() if each.get("folder") == key]
            if left:
                raise ValueError(f"the folder {key} is not empty: {left}")
        if type_ == CONTACT_POINT and any(key in _contacts(each) for each in self._policies()):
            raise ValueError(f"the contact point {key} is in use by a notification policy")
        self._all(type_).pop(key, None)

    def invoke(self, function: str, arguments: Inputs) -> Inputs:
        raise ValueError(f"the stand-in does not know the function {function}")

    def things(self, type_: str) -> Mapping[str, Inputs]:
        """Return what is there of a type, by uid or name."""
        return self._all(type_)

    def _all(self, type_: str) -> dict[str, Inputs]:
        return self.live.setdefault(type_, {})

    def _policies(self) -> list[Inputs]:
        return list(self._all(POLICY).values())

    def folder(self, inputs: Inputs) -> tuple[str, Inputs]:
        _require_uid(inputs["uid"])
        parent = inputs.get("parentFolderUid")
        if parent and parent not in self._all(FOLDER):
            raise ValueError(f"status: 404, there is no folder {parent}")
        return inputs["uid"], {"url": f"{self.url}/dashboards/f/{inputs['uid']}"}

    def dashboard(self, inputs: Inputs) -> tuple[str, Inputs]:
        model = _json("configJson", inputs["configJson"])
        if not model.get("title") or not model.get("uid"):
            raise ValueError("a dashboard needs a title and a uid")
        _require_uid(model["uid"])
        folder = inputs.get("folder")
        if folder and folder.removeprefix("1:") not in self._all(FOLDER):
            raise ValueError(f"status: 404, there is no folder {folder}")
        missing = sorted({*_data_sources(model)} - {*self._all(DATA_SOURCE), *_BUILT_IN})
        if missing:
            raise ValueError(f"dashboard {model['uid']}: there is no data source {missing}")
        url = f"{self.url}/d/{model['uid']}"
        return model["uid"], {"uid": model["uid"], "url": url, "dashboardId": 1, "version": 1}

    def data_source(self, inputs: Inputs) -> tuple[str, Inputs]:
        _require_uid(inputs["uid"])
        for name in ("jsonDataEncoded", "secureJsonDataEncoded", "httpHeaders"):
            if isinstance(inputs.get(name), str):
                _json(name, inputs[name])
        names = [each["name"] for each in self._all(DATA_SOURCE).values()]
        if inputs["name"] in names:
            raise ValueError("status: 409, data source with the same name already exists")
        return inputs["uid"], {}

    def contact_point(self, inputs: Inputs) -> tuple[str, Inputs]:
        if not any(isinstance(value, list) and value for value in inputs.values()):
            raise ValueError(f"the contact point {inputs['name']} reaches nobody")
        return inputs["name"], {}

    def policy(self, inputs: Inputs) -> tuple[str, Inputs]:
        for contact in _contacts(inputs):
            if contact not in self._all(CONTACT_POINT):
                raise ValueError(f"status: 400, receiver {contact!r} does not exist")
        return "policy", {}


_MADE: Mapping[str, Callable[[GrafanaBackend, Inputs], tuple[str, Inputs]]] = {
    CONTACT_POINT: GrafanaBackend.contact_point,
    DASHBOARD: GrafanaBackend.dashboard,
    DATA_SOURCE: GrafanaBackend.data_source,
    FOLDER: GrafanaBackend.folder,
    POLICY: GrafanaBackend.policy,
}


def _require_uid(uid: str) -> None:
    if not _UID.fullmatch(uid):
        raise ValueError(f"status: 400, {uid!r} is no uid: 40 letters, digits, - and _ at most")


def _json(name: str, text: str) -> Inputs:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no JSON object")  # noqa: TRY004, one error for all
    return found


def _data_sources(model: Any) -> Iterator[str]:
    """Return the uids of data sources anywhere in a dashboard; variables are left out."""
    if isinstance(model, dict):
        source = model.get("datasource")
        if isinstance(source, dict) and not str(source.get("uid", "$")).startswith("$"):
            yield source["uid"]
        for inner in model.values():
            yield from _data_sources(inner)
    elif isinstance(model, list):
        for inner in model:
            yield from _data_sources(inner)


def _contacts(policy: Inputs) -> Iterator[str]:
    if policy.get("contactPoint"):
        yield policy["contactPoint"]
    for inner in policy.get("policies", []):
        yield from _contacts(inner)
