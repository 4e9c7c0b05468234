DO $create$
BEGIN
    IF to_regclass({table}) IS NULL THEN
{statements}
    END IF;
END
$create$;
