-- Whether the complexity should be computed now and not at the next appointed time: there are
-- reviews, and none was ever read; or, at the start, some changed since (where changes are not
-- noted: their number is not that of the last run). Reviews are those that complexity_sums.sql reads.
SELECT CASE
    WHEN NOT EXISTS (
        SELECT FROM review_logs
        WHERE rating BETWEEN 1 AND 4
            AND "actorId" IS NOT NULL
            AND "flashcardId" IS NOT NULL
            AND reviewed_at >= '0001-01-01' AND reviewed_at < '9999-01-01'
    ) THEN FALSE
    WHEN NOT EXISTS (SELECT FROM workers.complexity_runs WHERE reviews > 0) THEN TRUE
    WHEN NOT %(starting)s THEN FALSE
    WHEN EXISTS (SELECT FROM workers.complexity_sources)
        THEN EXISTS (SELECT FROM workers.review_changes)
    ELSE
        (SELECT reviews FROM workers.complexity_runs ORDER BY id DESC LIMIT 1)
        <> (
            SELECT count(*)
            FROM review_logs
            WHERE rating BETWEEN 1 AND 4
                AND "actorId" IS NOT NULL
                AND "flashcardId" IS NOT NULL
                AND reviewed_at >= '0001-01-01' AND reviewed_at < '9999-01-01'
        )
END
