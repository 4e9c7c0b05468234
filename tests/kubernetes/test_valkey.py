from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey
from valkey.exceptions import AuthenticationError, NoPermissionError
from valkey.exceptions import ConnectionError as ValkeyConnectionError

from stacks.aws.cache import USER, access_string
from tests.kubernetes.certificates import Authority
from tests.kubernetes.valkey import Queue, running_queue


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    authority = Authority(tmp_path_factory.mktemp("authority"), "AWS")
    with running_queue(authority) as running:
        running.set_user(USER, "first", access_string("bull"))
        yield running


def connected(queue: Queue, password: str, authority: Path | None = None) -> Any:
    trusted = str(authority or queue.authority.certificate)
    return valkey.Valkey.from_url(queue.url(USER, password), ssl_ca_certs=trusted)


def test_the_user_comes_in_by_its_password_and_may_do_what_it_was_given(queue: Queue) -> None:
    client = connected(queue, "first")
    assert client.set("bull:key", "value")
    with pytest.raises(NoPermissionError):
        client.set("another:key", "value")
    with pytest.raises(NoPermissionError):
        client.flushall()
    with pytest.raises(AuthenticationError):
        connected(queue, "guessed").ping()


def test_there_is_no_way_in_without_tls_or_by_another_authority(
    queue: Queue, tmp_path: Path
) -> None:
    plain = queue.url(USER, "first").replace("rediss", "redis")
    with pytest.raises(ValkeyConnectionError):
        valkey.Valkey.from_url(plain).ping()
    with pytest.raises(ValkeyConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connected(queue, "first", Authority(tmp_path, "another").certificate).ping()


def test_another_password_leaves_open_connections_open(queue: Queue) -> None:
    client = connected(queue, "first")
    with client.client() as open_connection:
        open_connection.ping()
        queue.set_user(USER, "second", access_string("bull"))
        assert open_connection.set("bull:key", "value")
    assert connected(queue, "second").ping()
    with pytest.raises(AuthenticationError):
        connected(queue, "first").ping()
    queue.set_user(USER, "first", access_string("bull"))
