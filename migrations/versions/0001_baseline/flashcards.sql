CREATE TABLE flashcards (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "activityPubId" text UNIQUE
);
