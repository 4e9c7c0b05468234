"""The dashboard "Learning platform": queues, both workers, failures, partitioning, processes.

Every query answers on a healthy stack from the first minute on. Rates take `$__rate_interval`,
which Grafana chooses so that it holds four scrapes at least. Where a queue has a job an hour, such
a window is empty nearly always; those panels show all jobs since the worker's start, or an hour's.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from dashboards.panel import Panel, Section, Target

UID = "learning-platform"
TITLE = "Learning platform"

_RATE = "[$__rate_interval]"
_QUEUE = '{queue=~"$queue"}'


def _quantile(quantile: float, buckets: str) -> str:
    return f"histogram_quantile({quantile}, sum by (le) ({buckets}))"


OVERVIEW = Section(
    "Overview",
    (
        Panel(
            "Alerts firing",
            "Alerts that fire now, the Watchdog not counted.",
            units.Short,
            # Nothing fires: there is no series, and that is zero.
            (
                Target(
                    'count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)',
                    "firing",
                ),
            ),
            kind="stat",
            width=4,
            height=4,
            alarm=1,
        ),
        Panel(
            "Jobs to do",
            "Waiting, active, delayed, prioritized and paused jobs of all queues.",
            units.Short,
            (Target("sum(max by (queue) (bullmq_queue_size))", "jobs"),),
            kind="stat",
            width=4,
            height=4,
            warn=1000,
            alarm=10_000,
        ),
        Panel(
            "Longest wait",
            "Time since the oldest job that is next in line was created.",
            units.Seconds,
            (Target("max(bullmq_oldest_waiting_job_age_seconds)", "wait"),),
            kind="stat",
            width=4,
            height=4,
            warn=300,
            alarm=900,
        ),
        Panel(
            "Failed jobs, last hour",
            "Jobs that failed for good: attempts used up, or refused as malformed.",
            units.Short,
            (Target("sum(increase(jobs_failed_total[1h]))", "failed"),),
            kind="stat",
            width=4,
            height=4,
            warn=1,
            alarm=20,
        ),
        Panel(
            "Months partitioned",
            "Share of the months of the history that are live in the partitioned table.",
            units.PercentUnit,
            (
                Target(
                    "max by (table) (partitioning_months_live) / max by (table) "
                    "(partitioning_months)",
                    "{{table}}",
                ),
            ),
            kind="stat",
            width=4,
            height=4,
            maximum=1,
        ),
        Panel(
            "Targets down",
            "Processes that do not serve their metrics.",
            units.Short,
            (Target("count(up) - sum(up)", "down"),),
            kind="stat",
            width=4,
            height=4,
            alarm=1,
        ),
    ),
)

QUEUES = Section(
    "Queues",
    (
        Panel(
            "Queue size",
            "Jobs still to be done, by queue: waiting, active, delayed, prioritized and paused. "
            "Growth over 15 minutes raises QueueGrowing.",
            units.Short,
            (Target(f"max by (queue) (bullmq_queue_size{_QUEUE})", "{{queue}}"),),
        ),
        Panel(
            "Jobs by state",
            "What the jobs the queue holds wait for. Completed jobs are mostly removed at once.",
            units.Short,
            (
                Target(
                    'sum by (state) (max by (queue, state) (bullmq_jobs{queue=~"$queue"}))',
                    "{{state}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Age of the job next in line",
            "Time since the job was created that a worker will take next. More than 15 minutes "
            "raise QueueStuck.",
            units.Seconds,
            (
                Target(
                    f"max by (queue) (bullmq_oldest_waiting_job_age_seconds{_QUEUE})", "{{queue}}"
                ),
            ),
        ),
        Panel(
            "Added and finished",
            "Jobs the scheduler adds, against those that end. Where the first stays above the "
            "second the queue grows.",
            units.OpsPerSecond,
            (
                Target(
                    f"sum by (queue) (rate(scheduler_jobs_added_total{_QUEUE}{_RATE}))",
                    "added to {{queue}}",
                ),
                Target(
                    f"sum by (queue) (rate(jobs_completed_total{_QUEUE}{_RATE}) "
                    f"+ rate(jobs_failed_total{_QUEUE}{_RATE}))",
                    "finished of {{queue}}",
                ),
            ),
        ),
        Panel(
            "Workers",
            "Workers connected to Valkey, by queue. None while jobs are due raises WorkersMissing.",
            units.Short,
            (Target(f"max by (queue) (bullmq_workers{_QUEUE})", "{{queue}}"),),
        ),
        Panel(
            "Running jobs and pauses",
            "Jobs the workers run now, and whether a queue is paused (1).",
            units.Short,
            (
                Target(f"sum by (queue) (jobs_active{_QUEUE})", "running of {{queue}}"),
                Target(f"max by (queue) (bullmq_queue_paused{_QUEUE})", "{{queue}} paused"),
            ),
        ),
    ),
)

_FSRS_BUCKETS = "rate(fsrs_optimization_job_duration_seconds_bucket[$__rate_interval])"

FSRS_OPTIMIZATION = Section(
    "FSRS optimization",
    (
        Panel(
            "Outcomes",
            "Actors processed: trained, kept at the default parameters because training was no "
            "better, or skipped for want of reviews.",
            units.OpsPerSecond,
            (
                Target(
                    "sum by (outcome) "
                    "(rate(fsrs_optimization_jobs_processed_total[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Time of a job, quantiles",
            "Time to read, train, evaluate and write one actor. No value where no job ended.",
            units.Seconds,
            tuple(
                Target(_quantile(quantile, _FSRS_BUCKETS), f"{quantile:.0%}")
                for quantile in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "Time of a job, distribution",
            "Jobs that ended, by the time they took.",
            units.Seconds,
            (
                Target(
                    "sum by (le) (increase("
                    "fsrs_optimization_job_duration_seconds_bucket[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
            kind="heatmap",
            minimum=None,
        ),
        Panel(
            "Outcomes since the start",
            "Actors processed since the workers started, by outcome.",
            units.Short,
            (Target("sum by (outcome) (fsrs_optimization_jobs_processed_total)", "{{outcome}}"),),
            kind="stat",
        ),
        Panel(
            "Reviews read",
            "Reviews that FSRS jobs read.",
            units.CountsPerSecond,
            (
                Target(
                    "sum(rate(fsrs_optimization_reviews_read_total[$__rate_interval]))", "reviews"
                ),
            ),
        ),
        Panel(
            "Time spent in jobs",
            "Jobs running on average: seconds of job time in a second. At the workers' "
            "concurrency they are at their limit.",
            units.Short,
            (
                Target(
                    "sum(rate(fsrs_optimization_job_duration_seconds_sum[$__rate_interval]))",
                    "jobs",
                ),
            ),
        ),
    ),
)

COMPLEXITY = Section(
    "Complexity (CDC)",
    (
        Panel(
            "Time of a calculation, quantiles",
            "From the lock to the commit; all calculations since the workers started, as there is "
            "one an hour.",
            units.Seconds,
            tuple(
                Target(
                    _quantile(quantile, "cdc_calculation_job_duration_seconds_bucket"),
                    f"{quantile:.0%}",
                )
                for quantile in (0.5, 0.95)
            ),
        ),
        Panel(
            "Time of a calculation, distribution",
            "Calculations that ended, by the time they took.",
            units.Seconds,
            (
                Target(
                    "sum by (le) "
                    "(increase(cdc_calculation_job_duration_seconds_bucket[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
            kind="heatmap",
            minimum=None,
        ),
        Panel(
            "Calculations and what they touch",
            "Calculations, reviews read and nodes whose score changed, in the last hour.",
            units.Short,
            (
                Target(
                    "sum(increase(cdc_calculation_job_duration_seconds_count[1h]))", "calculations"
                ),
                Target("sum(increase(cdc_calculation_reviews_read_total[1h]))", "reviews read"),
                Target("sum(increase(cdc_calculation_nodes_written_total[1h]))", "nodes written"),
            ),
        ),
    ),
)

_FINISHED = (
    f"sum by (queue) (rate(jobs_completed_total{_QUEUE}{_RATE}) "
    f"+ rate(jobs_failed_total{_QUEUE}{_RATE}))"
)

FAILURES = Section(
    "Failures",
    (
        Panel(
            "Failure rate",
            "Share of the jobs that ended which failed for good; 0 where none ended. More than 5 % "
            "raise JobFailureRateHigh.",
            units.PercentUnit,
            (
                Target(
                    f"sum by (queue) (rate(jobs_failed_total{_QUEUE}{_RATE})) "
                    f"/ clamp_min({_FINISHED}, 1e-9)",
                    "{{queue}}",
                ),
            ),
            maximum=1,
        ),
        Panel(
            "Failed, retried, stalled, returned",
            "Jobs in the last hour that failed for good, that failed and are tried again, that "
            "lost their worker, and that went back to the queue at a shutdown.",
            units.Short,
            tuple(
                Target(f"sum by (queue) (increase(jobs_{what}_total{_QUEUE}[1h]))", label)
                for what, label in (
                    ("failed", "failed of {{queue}}"),
                    ("retried", "retried of {{queue}}"),
                    ("stalled", "stalled of {{queue}}"),
                    ("returned", "returned of {{queue}}"),
                )
            ),
        ),
        Panel(
            "Errors of scheduler and exporter",
            "Rounds of the scheduler, and scrapes of the exporter, that failed in the last hour.",
            units.Short,
            (
                Target("sum(increase(scheduler_errors_total[1h]))", "scheduler"),
                Target(
                    "sum by (source) (increase(exporter_scrape_errors_total[1h]))",
                    "exporter, {{source}}",
                ),
            ),
        ),
    ),
)

PARTITIONING = Section(
    "Partitioning",
    (
        Panel(
            "Months",
            "Months of the history, those live in the partitioned table, and those made ahead. "
            "None ahead raises PartitionMissing.",
            units.Short,
            (
                Target("max by (table) (partitioning_months)", "{{table}}: all"),
                Target("max by (table) (partitioning_months_live)", "{{table}}: live"),
                Target("max by (table) (partitioning_months_ahead)", "{{table}}: ahead"),
            ),
        ),
        Panel(
            "Rows copied",
            "Rows in the partitioned table, and the estimate of all there are.",
            units.Short,
            (
                Target("max by (table) (partitioning_rows_copied)", "{{table}}: copied"),
                Target("max by (table) (partitioning_rows_estimated)", "{{table}}: estimated"),
            ),
        ),
        Panel(
            "Changes to catch up, rows outside every month",
            "Changed keys of months that are being loaded, and rows in the default partition (0 "
            "where there is none).",
            units.Short,
            (
                Target("max by (table) (partitioning_changes_pending)", "{{table}}: changes"),
                Target(
                    "max by (table) (partitioning_default_rows) "
                    "or max by (table) (partitioning_months) * 0",
                    "{{table}}: outside",
                ),
            ),
        ),
        Panel(
            "Phase",
            "How far the partitioning of each table has gone.",
            units.Short,
            (Target("max by (table, phase) (partitioning_phase)", "{{table}}: {{phase}}"),),
            kind="stat",
            width=12,
            height=5,
        ),
        Panel(
            "Time since the last step",
            "Time since the partitioning last wrote down progress.",
            units.Seconds,
            (
                Target(
                    "time() - max by (table) (partitioning_updated_timestamp_seconds)", "{{table}}"
                ),
            ),
            kind="stat",
            width=12,
            height=5,
        ),
    ),
)

PROCESSES = Section(
    "Processes and servers",
    (
        Panel(
            "Up",
            "Whether each process serves its metrics, and Valkey and Postgres answer the exporter.",
            units.Short,
            (
                Target("min by (job) (up)", "{{job}}"),
                Target("max(valkey_up)", "Valkey"),
                Target("max(postgres_up)", "Postgres"),
            ),
            maximum=1,
        ),
        Panel(
            "Memory",
            "Resident memory by process. Processes of a worker's pool are not counted.",
            units.BytesIEC,
            (Target("max by (job, instance) (process_resident_memory_bytes)", "{{job}}"),),
        ),
        Panel(
            "Processor time",
            "Processors kept busy, by process.",
            units.Short,
            (
                Target(
                    "sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{job}}"
                ),
            ),
        ),
        Panel(
            "Time of a scrape",
            "Time the exporter takes to ask Valkey and Postgres; a server that gets slow shows "
            "here first.",
            units.Seconds,
            (
                Target("max(bullmq_scrape_duration_seconds)", "Valkey"),
                Target("max(postgres_scrape_duration_seconds)", "Postgres"),
            ),
            width=12,
        ),
        Panel(
            "Time since the scheduler's last round",
            "More than 15 minutes raise SchedulerStalled.",
            units.Seconds,
            (
                Target(
                    "time() - max(scheduler_last_success_timestamp_seconds)", "since last success"
                ),
            ),
            width=12,
        ),
    ),
)

SECTIONS = (
    OVERVIEW,
    QUEUES,
    FSRS_OPTIMIZATION,
    COMPLEXITY,
    FAILURES,
    PARTITIONING,
    PROCESSES,
)
