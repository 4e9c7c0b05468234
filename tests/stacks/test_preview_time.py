"""A preview of prod is quick enough to be looked at before every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stacks.preview_time import compare

GENEROUS = 4.5
"""`python -m bench.preview` holds the goal of 3 on a quiet machine; tests run on busy ones."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_preview_of_prod_takes_few_times_as_long_as_the_imports_of_the_sdks(
    tmp_path: Path,
) -> None:
    assert compare(tmp_path, "prod", runs=3).ratio < GENEROUS
