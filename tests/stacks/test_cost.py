"""What a month costs: no resource without a price, and docs/cost.md says what comes of it.

`python -m tests.stacks.test_cost` writes the tables of docs/cost.md anew.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest

from stacks.cost import (
    CONFIRMED,
    FREE,
    HOURS,
    IN_CLUSTER,
    IN_GRAFANA,
    PRICED,
    PRICES,
    PRICES_ARE,
    USAGE,
    Line,
    NoPriceError,
    as_markdown,
    bill,
    of_resource,
    total,
)
from stacks.settings import BundledGrafanaSettings, ExternalGrafanaSettings, Settings
from tests.stacks.aws.mocks import Declarations, settings, whole, whole_with
from tests.stacks.inputs import plain
from tests.stacks.test_grafana import MONITORING, bundled, external

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cost.md"
ENVIRONMENTS = ("staging", "prod")
CHARGED = ("aws:", "grafana:", "kubernetes:")
"""Whose resources somebody pays for; the others are the engine's own."""


def resources(declared: Declarations) -> list[tuple[str, dict[str, Any]]]:
    return [
        (each.type, plain(each.inputs))
        for each in declared.resources
        if each.type.startswith(CHARGED)
    ]


@functools.cache
def with_grafana() -> Declarations:
    return with_settings(bundled(zoneId="Z0123"))


def with_settings(grafana: BundledGrafanaSettings | ExternalGrafanaSettings) -> Declarations:
    changed = Settings(aws=settings("staging"), grafana=grafana, monitoring=MONITORING)
    return whole_with(changed)[0]


def bill_of(environment: str) -> list[Line]:
    return bill(resources(whole(environment)[0]), USAGE[environment])


def with_tables(text: str) -> str:
    """Return the document with its tables made anew."""
    for environment in ENVIRONMENTS:
        table = as_markdown(bill_of(environment))
        text = re.sub(
            rf"(<!-- {environment} -->\n).*?(<!-- end -->)",
            lambda match, table=table: f"{match[1]}{table}{match[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def test_every_declared_type_is_priced_or_free_and_no_entry_is_stale() -> None:
    restored = Settings(aws=settings("staging", database={"restoreSnapshot": "of-prod"}))
    declared = {
        type_
        for declarations in (
            whole("staging")[0],
            whole("prod")[0],
            whole_with(restored)[0],
            with_grafana(),
        )
        for type_, _ in resources(declarations)
    }
    known = [set(PRICED), FREE, IN_CLUSTER, IN_GRAFANA]
    assert declared == set().union(*known)
    assert len(declared) == sum(map(len, known))


def test_a_type_or_a_size_without_a_price_is_refused() -> None:
    with pytest.raises(NoPriceError, match="aws:ec2/instance:Instance"):
        of_resource("aws:ec2/instance:Instance", {})
    with pytest.raises(NoPriceError, match=r"db\.x2g\.large"):
        of_resource(
            "aws:rds/instance:Instance", {"multiAz": False, "instanceClass": "db.x2g.large"}
        )


def test_lines_follow_what_is_declared() -> None:
    prod = {line.what: line for line in bill_of("prod")}
    staging = {line.what: line for line in bill_of("staging")}
    assert prod["NAT gateways"].quantity == 3 * HOURS
    assert staging["NAT gateways"].quantity == HOURS
    assert prod["KMS keys"].quantity == 5
    # Two copies in two zones, and their storage.
    assert prod["Database"].quantity == 2 * HOURS
    assert prod["Database storage"].quantity == 2 * 200
    assert prod["Database replica, storage"].quantity == 200
    assert "Database replica" not in staging
    assert prod["Queue"].quantity == 3 * HOURS
    assert total(prod.values()) == pytest.approx(
        sum(line.quantity * line.price for line in prod.values())
    )


def test_monitoring_costs_its_volumes_and_what_cloudwatch_is_asked_for() -> None:
    prod = {line.what: line for line in bill_of("prod")}
    staging = {line.what: line for line in bill_of("staging")}
    # Two of each, 50 and 2 GiB; one of each, 20 and 2.
    assert prod["Monitoring, volumes"].quantity == 2 * (50 + 2)
    assert staging["Monitoring, volumes"].quantity == 22
    # Twelve times an hour: 10 metrics of two instances, 6 of three nodes under two names each.
    assert prod["CloudWatch, metrics"].quantity == pytest.approx(
        12 * HOURS * (10 * 2 + 6 * 3 * 2) / 1000
    )
    assert staging["CloudWatch, metrics"].quantity == pytest.approx(
        12 * HOURS * (10 + 6 * 2) / 1000
    )


def test_a_grafana_in_the_cluster_costs_a_load_balancer_and_another_one_nothing_here() -> None:
    usage = USAGE["staging"]
    without = total(bill_of("staging"))
    lines = {line.what: line for line in bill(resources(with_grafana()), usage)}
    assert lines["Load balancers"].quantity == HOURS
    assert 15 < total(lines.values()) - without < 30
    assert total(bill(resources(with_settings(external())), usage)) == pytest.approx(without)


def test_the_prices_that_were_confirmed_are_among_those_there_are() -> None:
    assert set(PRICES) > CONFIRMED


def test_the_document_says_what_comes_of_the_tables() -> None:
    text = DOCUMENT.read_text()
    assert PRICES_ARE in text.replace("\n", " ")
    assert with_tables(text) == text


def test_no_price_is_nought() -> None:
    assert all(price > 0 for price in PRICES.values())


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
