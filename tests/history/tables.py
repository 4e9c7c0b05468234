"""The application's tables, upgraded, as the history finds them."""

from __future__ import annotations

_BEFORE = """
CREATE TABLE actors (
    id uuid PRIMARY KEY, "createdAt" timestamp NOT NULL DEFAULT now(),
    fsrs_parameters jsonb, fsrs_log_loss double precision
);
CREATE TABLE flashcards (id uuid PRIMARY KEY, "activityPubId" text NOT NULL UNIQUE);
CREATE TABLE nodes (id uuid PRIMARY KEY, type text NOT NULL, properties jsonb);
CREATE TABLE edges (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "sourceId" uuid NOT NULL REFERENCES nodes,
    "targetId" uuid NOT NULL REFERENCES nodes, type text NOT NULL, properties jsonb
);
CREATE TABLE review_logs (
    id uuid DEFAULT gen_random_uuid(),
    "flashcardId" uuid NOT NULL REFERENCES flashcards, "actorId" uuid NOT NULL REFERENCES actors,
    rating smallint NOT NULL, state jsonb NOT NULL, elapsed_time integer NOT NULL,
    reviewed_at timestamp NOT NULL DEFAULT now(), scheduled_on timestamp, "previousState" jsonb,
"""

DDL = f"{_BEFORE} PRIMARY KEY (id))"

PARTITIONED_DDL = f"{_BEFORE} PRIMARY KEY (id, reviewed_at)) PARTITION BY RANGE (reviewed_at)"
