SELECT id FROM actors WHERE id = %(actor_id)s
