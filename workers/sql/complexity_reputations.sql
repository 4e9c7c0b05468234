-- The reputation of every actor: the mean of three figures between 0 and 1,
-- experience: reviews / (reviews + 200), one half at the 200 reviews that FSRS asks for;
-- fit:        exp(-log-loss) of the actor's FSRS parameters, the probability they gave, as a
--             geometric mean, to what happened; one half, a coin's, where they are not known;
-- tenure:     days / (days + 30) from the first to the last review, one half after a month.
WITH histories AS (
    SELECT
        actor_id,
        sum(reviews)::double precision AS reviews,
        date_part('epoch', max(last_reviewed_at) - min(first_reviewed_at)) / 86400 AS days
    FROM workers.complexity_actors
    GROUP BY actor_id
)

SELECT
    known.number AS actor,
    (
        history.reviews / (history.reviews + 200)
        + exp(-greatest(0, coalesce(
            CASE WHEN actor.fsrs_log_loss < 100 THEN actor.fsrs_log_loss END, ln(2)
        )))
        + history.days / (history.days + 30)
    ) / 3 AS reputation
FROM histories AS history
INNER JOIN actors AS actor ON history.actor_id = actor.id
INNER JOIN workers.complexity_numbers AS known ON history.actor_id = known.id
