{is_in_place} AND {key} >= {lower} AND {key} < {upper}
            AND {locked}
