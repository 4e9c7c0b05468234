-- From the sums of complexity_stage: the actors and the months themselves.
WITH actors AS (
    INSERT INTO workers.complexity_actors
    SELECT month, actor_id, sum(reviews), min(first_reviewed_at), max(last_reviewed_at)
    FROM complexity_stage
    GROUP BY month, actor_id
)

INSERT INTO workers.complexity_months (month, version, definition, sources, reviews, pairs)
SELECT
    stage.month,
    nextval('workers.complexity_versions'),
    %(definition)s,
    -- A table whose changes are not noted has no state: no table is ever like it.
    array_agg(DISTINCT coalesce(source.state, 'not tracked')),
    sum(stage.reviews),
    sum(stage.pairs)
FROM (
    SELECT month, source, sum(reviews) AS reviews, count(*) AS pairs
    FROM complexity_stage
    GROUP BY month, source
) AS stage
LEFT JOIN unnest(%(ids)s::bigint [], %(states)s::text []) AS source (id, state)
    ON stage.source = source.id
GROUP BY stage.month
