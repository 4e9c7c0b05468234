"""Prod migrates and partitions its database by its own Jobs: nothing in the pods is pretended.

The tests run in order, on one stack.
"""

from __future__ import annotations

import pytest

from tests.kubernetes.objects import is_ready
from tests.stacks.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SERVICES = ("complexity", "exporter", "fsrs-optimization", "scheduler")


def test_an_update_makes_roles_and_schema_and_all_services_become_ready(
    production: Production,
) -> None:
    production.up()
    for step in ("roles", "schema", "install"):
        assert production.exit_codes(step) == [0]
    for service in SERVICES:
        pods = production.cluster.pods(**{"app.kubernetes.io/name": service})
        assert pods
        assert all(is_ready(pod) for pod in pods)
