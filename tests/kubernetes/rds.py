"""RDS for pods: a real Postgres that is reached, and logs in, as the stack's database would.

It listens at RDS's port on an address of loopback that is its own. Pods find it by that address
for a host; or by the name AWS gave it, if `PGHOSTADDR` tells libpq where that leads: the
certificate and the token are checked for the name all the same. A replica is the same server at
another address, with IAM policies of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.kubernetes.addresses import free_address
from tests.kubernetes.certificates import Authority
from tests.kubernetes.identity import Identities
from tests.rds import Endpoint, Rds, running_rds

PORT = 5432


@contextmanager
def running_database(
    authority: Authority,
    identities: Identities,
    *,
    master: str,
    master_password: str | None = None,
    names: Sequence[str] = (),
    **options: str,
) -> Iterator[Rds]:
    """Run a database at port 5432 that takes the tokens of `identities` and its master's password.

    `names` are further ones that it goes by; `options` are settings of Postgres. `rds.host` is its
    address.
    """
    with running_rds(
        endpoint=_endpoint(authority, *names),
        keys=identities.keys,
        master=master,
        master_password=master_password,
        **options,
    ) as rds:
        yield rds


@contextmanager
def running_replica(authority: Authority, rds: Rds, directory: Path) -> Iterator[Rds]:
    """Let the server of `rds` be reached at another address too; tokens are for one of them."""
    keys = replace(rds.keys)
    replica = Rds(rds.server, directory, keys, rds.master_password, _endpoint(authority))
    try:
        yield replica
    finally:
        replica.stop()


def _endpoint(authority: Authority, *names: str) -> Endpoint:
    address = free_address(PORT)
    hosts = (address, *names)
    certificate = (*authority.issue(f"rds-{address}", hosts), authority.certificate)
    return Endpoint(hosts, address, PORT, certificate)


def allow(identities: Identities, roles: dict[str, set[str]]) -> None:
    """Let each IAM role connect only as the database's roles given for it."""

    def permitted(key: str, role: str) -> bool:
        return role in roles.get(identities.role_of_key.get(key, ""), set())

    identities.keys.permitted = permitted
