"""Dashboards as one stack has them in a Grafana that several stacks may share."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.models import dashboard as model

from dashboards.catalogue import to_json


def for_stack(dashboard: model.Dashboard, stack: str, data_source: tuple[str, str] | None) -> str:
    """Return a dashboard's JSON for a stack: with a uid and a title of its own.

    `data_source` is the name and the uid of the Prometheus it opens with; without one Grafana
    takes its default.
    """
    document: dict[str, Any] = json.loads(to_json(dashboard))
    document["uid"] = f"{document['uid']}-{stack}"
    document["title"] = f"{document['title']} ({stack})"
    if data_source is not None:
        name, uid = data_source
        (variable,) = (
            each for each in document["templating"]["list"] if each["name"] == "datasource"
        )
        variable["current"] = {"text": name, "value": uid, "selected": True}
    return json.dumps(document, sort_keys=True, ensure_ascii=False)
