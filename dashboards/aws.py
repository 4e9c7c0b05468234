"""The dashboard "Learning platform on AWS": what CloudWatch says of the database and the queue.

Only stacks on AWS have it: elsewhere no query would find anything. The names are those of the
exporter (stacks/kubernetes/cloudwatch.py says which there are), a value of 5 minutes ago at best.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from dashboards.panel import Panel, Section, Target

UID = "learning-platform-aws"
TITLE = "Learning platform on AWS"

_DATABASE = "dimension_DBInstanceIdentifier"
_NODE = "dimension_CacheClusterId"


def _database(metric: str, how: str = "max") -> tuple[Target, ...]:
    return (Target(f"{how} by ({_DATABASE}) (aws_rds_{metric})", f"{{{{{_DATABASE}}}}}"),)


def _node(metric: str) -> tuple[Target, ...]:
    return (Target(f"max by ({_NODE}) (aws_elasticache_{metric})", f"{{{{{_NODE}}}}}"),)


DATABASE = Section(
    "Database (RDS)",
    (
        Panel(
            "Free storage",
            "Storage that is left, by instance. Less than 5 GiB raise DatabaseStorageLow.",
            units.BytesIEC,
            _database("free_storage_space_minimum", "min"),
        ),
        Panel(
            "Processor, database",
            "Processor time in use. More than 90 % for long raise DatabaseProcessorBusy.",
            units.Percent,
            _database("cpuutilization_average"),
            maximum=100,
        ),
        Panel(
            "Connections, database",
            "Connections that are open. More than 400 raise DatabaseConnectionsHigh.",
            units.Short,
            _database("database_connections_maximum"),
        ),
        Panel(
            "Free memory",
            "Memory that is neither in use nor a cache.",
            units.BytesIEC,
            _database("freeable_memory_minimum", "min"),
        ),
        Panel(
            "Time to read and write",
            "Time that the storage takes for one operation.",
            units.Seconds,
            (
                Target(
                    f"max by ({_DATABASE}) (aws_rds_read_latency_average)",
                    f"{{{{{_DATABASE}}}}}: read",
                ),
                Target(
                    f"max by ({_DATABASE}) (aws_rds_write_latency_average)",
                    f"{{{{{_DATABASE}}}}}: write",
                ),
            ),
        ),
        Panel(
            "Operations waiting for the disk",
            "Reads and writes that wait for the storage.",
            units.Short,
            _database("disk_queue_depth_average"),
        ),
        Panel(
            "Replica behind",
            "How old what the read replica shows is. More than 10 minutes raise "
            "DatabaseReplicaLagging.",
            units.Seconds,
            _database("replica_lag_maximum"),
        ),
        Panel(
            "Log kept for slots",
            "Write-ahead log that is kept for the replication slot that lags most. More than "
            "10 GiB raise DatabaseSlotLagging.",
            units.BytesIEC,
            _database("oldest_replication_slot_lag_maximum"),
        ),
        Panel(
            "Transaction ids in use",
            "How many ids vacuum has not freed. More than 1000 million raise "
            "DatabaseTransactionIdsHigh.",
            units.Short,
            _database("maximum_used_transaction_ids_maximum"),
        ),
    ),
)

QUEUE = Section(
    "Queue (ElastiCache)",
    (
        Panel(
            "Memory in use",
            "Share of the node's memory. More than 75 % raise QueueMemoryHigh; full, it refuses "
            "new jobs.",
            units.Percent,
            _node("database_memory_usage_percentage_maximum"),
            maximum=100,
        ),
        Panel(
            "Processor, queue",
            "Time in use of the one thread that runs commands. More than 80 % raise "
            "QueueProcessorBusy.",
            units.Percent,
            _node("engine_cpuutilization_average"),
            maximum=100,
        ),
        Panel(
            "Evictions",
            "Keys thrown away for want of memory. Any raises QueueEvicting.",
            units.Short,
            _node("evictions_sum"),
        ),
        Panel(
            "Connections, queue",
            "Connections that are open, by node.",
            units.Short,
            _node("curr_connections_maximum"),
        ),
        Panel(
            "Replicas behind",
            "How far replicas are behind the primary.",
            units.Seconds,
            _node("replication_lag_maximum"),
        ),
        Panel(
            "Packets held back",
            "Packets of a minute that exceeded the bandwidth of the node.",
            units.Short,
            _node("network_bandwidth_out_allowance_exceeded_sum"),
        ),
    ),
)

EXPORTER = Section(
    "CloudWatch",
    (
        Panel(
            "Metrics asked for, a day",
            "What is paid for: metrics asked of CloudWatch, extrapolated to a day.",
            units.Short,
            (
                Target(
                    "sum(increase(yace_cloudwatch_getmetricdata_metrics_requested_total[1d]))",
                    "metrics",
                ),
            ),
            width=12,
        ),
        Panel(
            "Failed requests",
            "Requests to CloudWatch that failed in the last hour.",
            units.Short,
            (
                Target(
                    "sum by (api_name) (increase(yace_cloudwatch_request_errors[1h]))",
                    "{{api_name}}",
                ),
            ),
            width=12,
        ),
    ),
)

SECTIONS = (DATABASE, QUEUE, EXPORTER)
