"""Secrets planted in stacks are in no state, no output, no log and no process's arguments."""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.canary import Canaries, Finding
from tests.checkouts import Checkout, checked_out

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Made anew each time, for the checkout holds this file too.
WEBHOOK = f"http://127.0.0.1:9/hooks/{secrets.token_urlsafe(24)}"

# The least that has all kinds of processes.
SETTINGS: dict[str, object] = {
    "learning-platform:partitioning": {"phase": "schema"},
    "learning-platform:history": {"source": "none"},
}


@dataclass
class Planted:
    """A stack that holds known secrets, and what was shown of it so far."""

    checkout: Checkout
    canaries: Canaries
    shown: dict[str, str]


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    with checked_out(SETTINGS) as checkout:
        shown: dict[str, str] = {}

        def pulumi(*arguments: str) -> None:
            done = checkout.pulumi(*arguments)
            shown[" ".join(arguments)] = done.stdout + done.stderr

        pulumi("stack", "init", "local")
        checkout.pulumi(
            *("config", "set", "--path", "--secret", "-s", "local"),
            *("learning-platform:monitoring.webhookUrl", WEBHOOK),
        )
        up = checkout.stacks("up")
        shown["up"] = up.stdout + up.stderr
        pulumi("preview", "--diff", "-s", "local")
        pulumi("stack", "output", "-s", "local", "--json")
        pulumi("config", "-s", "local")
        pulumi("refresh", "--yes", "--skip-preview", "--diff", "-s", "local")
        told = checkout.pulumi("stack", "output", "-s", "local", "--json", "--show-secrets")
        outputs = json.loads(told.stdout)
        yield Planted(
            checkout,
            Canaries(
                database=str(urlsplit(outputs["database_url"]).password),
                queue=str(urlsplit(outputs["redis_url"]).password),
                webhook=urlsplit(WEBHOOK).path,
            ),
            shown,
        )


def test_none_is_in_what_pulumi_and_make_show(planted: Planted) -> None:
    assert planted.canaries.in_text(**planted.shown) == []
    assert "secure:" in (planted.checkout.root / "Pulumi.local.yaml").read_text()


def test_none_is_in_the_state_and_its_history(planted: Planted) -> None:
    state = planted.checkout.root / ".local" / "state"
    assert list(state.rglob("*.json*"))
    assert planted.canaries.in_tree(state) == []


def test_none_is_in_the_checkout_but_where_only_its_owner_may_read(planted: Planted) -> None:
    root = planted.checkout.root
    found = planted.canaries.in_tree(root)
    assert found, "the programs read some from files"
    exposed: list[Finding] = []
    for finding in found:
        path = root / finding.place.partition(", ")[0]
        if not path.is_file() or path.suffix == ".log" or others_can_read(path, root):
            exposed.append(finding)
    assert exposed == []


def others_can_read(path: Path, root: Path) -> bool:
    """Tell whether users other than its own can come to a file: by its mode and its folders'."""
    if not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return False
    folders = [folder for folder in path.parents if folder.is_relative_to(root)]
    return all(folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for folder in folders)


def test_none_is_in_the_arguments_of_any_process(planted: Planted) -> None:
    assert planted.canaries.in_command_lines() == []


def test_the_servers_know_of_none_that_is_not_theirs(planted: Planted) -> None:
    processes = {
        program: [process for process in planted.checkout.processes() if process.name() == program]
        for program in ("prometheus", "alertmanager", "postgres", "valkey-server")
    }
    assert all(processes.values()), processes
    for found in processes.values():
        assert planted.canaries.in_environment(found) == []
