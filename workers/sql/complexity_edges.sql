-- The edges as numbers of nodes, which count from 0 in the order of complexity_nodes.sql; packed as
-- numpy reads them: int4, int4, float8. A weight that is missing or no number is 1, one that is not
-- positive takes the edge away, and sums of others stay well within a double. A node is no neighbour
-- of its own.
WITH numbered_nodes AS MATERIALIZED (
    SELECT
        id,
        row_number() OVER (ORDER BY id)::integer - 1 AS index
    FROM nodes
)

SELECT string_agg(int4send(source) || int4send(target) || float8send(weight), '') AS edges
FROM (
    SELECT
        source.index AS source,
        target.index AS target,
        CASE WHEN jsonb_typeof(edge.properties -> 'weight') = 'number'
            THEN CASE WHEN (edge.properties -> 'weight')::numeric > 0
                THEN least(
                    greatest((edge.properties -> 'weight')::numeric, 1e-30), 1e30
                )::double precision
            END
            ELSE 1
        END AS weight
    FROM edges AS edge
    INNER JOIN numbered_nodes AS source ON edge."sourceId" = source.id
    INNER JOIN numbered_nodes AS target ON edge."targetId" = target.id
    WHERE edge."sourceId" <> edge."targetId"
) AS numbered
WHERE weight > 0
GROUP BY source / 4096
