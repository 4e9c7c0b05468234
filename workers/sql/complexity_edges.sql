-- The edges as numbers of nodes, packed as numpy reads them: int4, int4, float8. A weight that is
-- missing or no number is 1, one that is not
-- positive takes the edge away. A node is no neighbour of its own.
SELECT string_agg(int4send(source) || int4send(target) || float8send(weight), '') AS edges
FROM (
    SELECT
        source.index AS source,
        target.index AS target,
        CASE WHEN jsonb_typeof(edge.properties -> 'weight') = 'number'
            THEN (edge.properties -> 'weight')::double precision
            ELSE 1
        END AS weight
    FROM edges AS edge
    INNER JOIN complexity_nodes AS source ON edge."sourceId" = source.id
    INNER JOIN complexity_nodes AS target ON edge."targetId" = target.id
    WHERE edge."sourceId" <> edge."targetId"
) AS numbered
WHERE weight > 0
GROUP BY source / 4096
