CREATE TABLE review_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "flashcardId" uuid NOT NULL REFERENCES flashcards,
    "actorId" uuid NOT NULL REFERENCES actors,
    rating smallint NOT NULL,
    state jsonb NOT NULL,
    elapsed_time integer NOT NULL DEFAULT 0,
    reviewed_at timestamp NOT NULL DEFAULT now(),
    scheduled_on timestamp
);
CREATE INDEX review_logs_actor_reviewed_at ON review_logs ("actorId", reviewed_at);
CREATE INDEX review_logs_flashcard ON review_logs ("flashcardId");
