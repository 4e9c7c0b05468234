"""RDS for pods: a real Postgres that is reached, and logs in, as the stack's database would.

It listens at RDS's port on an address of loopback that is its own. Pods find it by that address
for a host; or by the name AWS gave it, if `PGHOSTADDR` tells libpq where that leads: the
certificate and the token are checked for the name all the same. A replica is another name for the
same server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    address = free_address(PORT)
    hosts = (address, *names)
    certificate = (*authority.issue(f"rds-{address}", hosts), authority.certificate)
    with running_rds(
        endpoint=Endpoint(hosts, address, PORT, certificate),
        keys=identities.keys,
        master=master,
        master_password=master_password,
        **options,
    ) as rds:
        yield rds


def allow(identities: Identities, roles: dict[str, set[str]]) -> None:
    """Let each IAM role connect only as the database's roles given for it."""

    def permitted(key: str, role: str) -> bool:
        return role in roles.get(identities.role_of_key.get(key, ""), set())

    identities.keys.permitted = permitted
