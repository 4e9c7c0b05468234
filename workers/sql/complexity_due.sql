-- Whether the complexity should be computed now and not at the next appointed time: there are
-- reviews, and none was ever read; or, at the start, their number is not that of the last run.
SELECT CASE
    WHEN NOT EXISTS (SELECT FROM review_logs WHERE rating BETWEEN 1 AND 4) THEN FALSE
    WHEN NOT EXISTS (SELECT FROM workers.complexity_runs WHERE reviews > 0) THEN TRUE
    WHEN %(starting)s THEN
        (SELECT reviews FROM workers.complexity_runs ORDER BY id DESC LIMIT 1)
        <> (SELECT count(*) FROM review_logs WHERE rating BETWEEN 1 AND 4)
    ELSE FALSE
END
