"""What a month costs: no resource without a price, and docs/cost.md says what comes of it.

`python -m tests.stacks.test_cost` writes the tables of docs/cost.md anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stacks.cost import (
    FREE,
    HOURS,
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
from tests.stacks.aws.mocks import foundation, foundation_with, settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cost.md"
ENVIRONMENTS = ("staging", "prod")


def bill_of(environment: str) -> list[Line]:
    resources = foundation(environment)[0].resources
    return bill(
        [(each.type, each.inputs) for each in resources if each.type.startswith("aws:")],
        USAGE[environment],
    )


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
    declared = {
        each.type
        for declarations in (
            foundation("staging")[0],
            foundation("prod")[0],
            foundation_with(settings("staging", database={"restoreSnapshot": "of-prod"}))[0],
        )
        for each in declarations.resources
        if each.type.startswith("aws:")
    }
    assert declared == set(PRICED) | FREE
    assert not set(PRICED) & FREE


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


def test_the_document_says_what_comes_of_the_tables() -> None:
    text = DOCUMENT.read_text()
    assert PRICES_ARE in text.replace("\n", " ")
    assert with_tables(text) == text


def test_no_price_is_nought() -> None:
    assert all(price > 0 for price in PRICES.values())


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
