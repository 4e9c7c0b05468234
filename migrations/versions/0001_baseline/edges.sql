CREATE TABLE edges (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "sourceId" uuid NOT NULL REFERENCES nodes,
    "targetId" uuid NOT NULL REFERENCES nodes,
    type text NOT NULL,
    properties jsonb
);
CREATE INDEX edges_source ON edges ("sourceId");
CREATE INDEX edges_target ON edges ("targetId");
