"""What Prometheus is told of our PodMonitors is what the operator makes of them."""

from __future__ import annotations

import json

from tests.kubernetes.pod_monitors import CONFIGURATION, request


def test_the_configuration_was_made_of_the_pod_monitors_there_are() -> None:
    made_of = CONFIGURATION.with_name("request.json")
    assert json.loads(made_of.read_text()) == request()
