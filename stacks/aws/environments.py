"""What staging and prod do differently, as data: every such difference is in this file.

Sizes can be changed in a stack's settings (`stacks/settings.py`); what is durable or redundant here
cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stacks.kubernetes.sizes import Size


@dataclass(frozen=True)
class Environment:
    """How redundant and durable an environment is, and how large where settings do not say.

    `zones_with_nat` and `zones_with_endpoints` count from the first zone. `queue_nodes` is the
    primary with its replicas. Days are how long backups, snapshots and logs are kept; storage is in
    GiB. `sizes` are those of our pods, by service; `steps` are the database steps'.
    """

    name: str
    zones_with_nat: int
    zones_with_endpoints: int
    database_multi_az: bool
    database_replica: bool
    database_class: str
    database_storage: int
    database_storage_limit: int
    backup_days: int
    queue_nodes: int
    queue_node_type: str
    snapshot_days: int
    log_days: int
    sizes: Mapping[str, Size]
    durable: bool
    """Deletion protection, `protect` in the state, changes in the maintenance window only."""


STAGING = Environment(
    name="staging",
    zones_with_nat=1,
    zones_with_endpoints=1,
    database_multi_az=False,
    database_replica=False,
    database_class="db.t4g.large",
    database_storage=50,
    database_storage_limit=500,
    backup_days=7,
    queue_nodes=1,
    queue_node_type="cache.t4g.small",
    snapshot_days=1,
    log_days=30,
    sizes={
        "fsrs-optimization": Size(500, 768, minimum=1, maximum=4, jobs_per_replica=50),
        "complexity": Size(500, 1024, minimum=1, maximum=2, jobs_per_replica=6),
        "scheduler": Size(100, 256),
        "exporter": Size(100, 256),
        "steps": Size(500, 1024),
    },
    durable=False,
)

PROD = Environment(
    name="prod",
    zones_with_nat=3,
    zones_with_endpoints=3,
    database_multi_az=True,
    database_replica=True,
    database_class="db.r7g.xlarge",
    database_storage=200,
    database_storage_limit=2000,
    backup_days=30,
    queue_nodes=3,
    queue_node_type="cache.r7g.large",
    snapshot_days=14,
    log_days=365,
    sizes={
        "fsrs-optimization": Size(2000, 2048, minimum=2, maximum=12, jobs_per_replica=100),
        "complexity": Size(1000, 2048, minimum=1, maximum=6, jobs_per_replica=6),
        "scheduler": Size(100, 256, minimum=2, maximum=2),
        "exporter": Size(100, 256),
        "steps": Size(1000, 2048),
    },
    durable=True,
)

ENVIRONMENTS = {environment.name: environment for environment in (STAGING, PROD)}
