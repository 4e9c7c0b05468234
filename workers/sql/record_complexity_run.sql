INSERT INTO workers.complexity_runs (
    cdc_version, reviews, actors, nodes, edges, scored, written, iterations, seconds
)
VALUES (
    %(version)s, %(reviews)s, %(actors)s, %(nodes)s, %(edges)s,
    %(scored)s, %(written)s, %(iterations)s, %(seconds)s
)
