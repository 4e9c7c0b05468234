-- Step 5: write the scores where they differ; take them away where there is none any more. What is
-- no object has no place for one, and stays as it is.
UPDATE nodes
SET properties = CASE
    WHEN score.score IS NULL THEN nodes.properties - 'cdc_score' - 'cdc_version'
    ELSE coalesce(nullif(nodes.properties, 'null'), '{}') || jsonb_build_object(
        'cdc_score', score.score, 'cdc_version', %(version)s::integer
    )
END
FROM (SELECT id, nullif(score, 'NaN') AS score FROM complexity_scores) AS score
WHERE nodes.id = score.id
  AND coalesce(jsonb_typeof(nodes.properties), 'null') IN ('object', 'null')
  AND CASE
      WHEN score.score IS NULL THEN nodes.properties ?| ARRAY['cdc_score', 'cdc_version']
      WHEN jsonb_typeof(nodes.properties -> 'cdc_score') = 'number'
          THEN abs((nodes.properties -> 'cdc_score')::double precision - score.score) > 1e-9
              OR nodes.properties -> 'cdc_version' IS DISTINCT FROM to_jsonb(%(version)s::integer)
      ELSE TRUE
  END
