"""One prod for all tests here, which run in the order of their files and build on one another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stacks.production import Production, running_production


@pytest.fixture(scope="package")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Prod, not yet brought up by the first who asks for it; it is gone after the last test here.

    Whoever needs it up says `if not production.is_up: production.up()`.
    """
    directory = tmp_path_factory.mktemp("production")
    directory.chmod(0o755)
    with running_production(directory) as made:
        yield made
