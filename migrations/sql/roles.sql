-- Two roles for what logs in by itself: the database steps, which own the schema, and the workers,
-- which own nothing. For the server's administrator, who need be no superuser: the master role of RDS
-- will do. Harmless to run again.
--
-- As one transaction: the administrator is a member of these roles in it, and must not be one
-- afterwards, for with them it would be in rds_iam, whose members RDS lets in without a password only.
SET LOCAL lock_timeout = {lock_timeout};

DO $roles$
DECLARE
    steps constant name := {steps};
    workers constant name := {workers};
    iam_is_required constant boolean := {iam_is_required};
    administrator constant name := current_user;
    database constant name := current_database();
    application_tables constant name [] := {application_tables};
    own_schemas constant name [] := {own_schemas};
    database_owner name;
    table_owners name [];
    owner name;
    member name;
    borrowed name [] := ARRAY[]::name [];
    object record;
BEGIN
    IF administrator IN (steps, workers) OR session_user IN (steps, workers) THEN
        RAISE EXCEPTION 'this is role %, which takes no part in making itself: connect as the'
            ' administrator', session_user;
    END IF;

    -- The roles, which may do nothing to the server.
    FOREACH member IN ARRAY ARRAY[steps, workers] LOOP
        SELECT * INTO object FROM pg_roles WHERE rolname = member;
        IF NOT FOUND THEN
            EXECUTE format('CREATE ROLE %I LOGIN', member);
            RAISE NOTICE 'created role %', member;
        ELSIF object.rolsuper OR object.rolcreaterole OR object.rolcreatedb
            OR object.rolreplication OR object.rolbypassrls THEN
            RAISE EXCEPTION 'role % may more than it should: it must be neither SUPERUSER,'
                ' CREATEROLE, CREATEDB, REPLICATION nor BYPASSRLS', member;
        ELSIF NOT object.rolcanlogin THEN
            EXECUTE format('ALTER ROLE %I LOGIN', member);
            RAISE NOTICE 'role % may log in', member;
        END IF;
        IF to_regrole('rds_iam') IS NULL THEN
            IF iam_is_required THEN
                RAISE EXCEPTION 'this server has no role rds_iam: switch IAM authentication on';
            END IF;
        ELSIF NOT pg_has_role(member, 'rds_iam', 'USAGE') THEN
            EXECUTE format('GRANT rds_iam TO %I', member);
            RAISE NOTICE 'role % logs in by IAM', member;
        END IF;
    END LOOP;
    IF to_regrole('rds_iam') IS NULL THEN
        RAISE WARNING 'no role rds_iam here, this is no RDS: the roles log in by whatever'
            ' pg_hba.conf says, such as passwords that you give them';
    END IF;

    -- Who owns the application's tables: its own role, which then is the one that the steps act as;
    -- or the administrator, or nobody yet: then the steps do themselves.
    SELECT array_agg(DISTINCT pg_get_userbyid(relowner)) INTO table_owners
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND relname = ANY (application_tables) AND pg_get_userbyid(relowner) <> administrator;
    IF cardinality(table_owners) > 1 THEN
        RAISE EXCEPTION 'the application''s tables have several owners (%): make it one of them',
            array_to_string(table_owners, ', ');
    END IF;
    owner := coalesce(table_owners[1], steps);

    SELECT pg_get_userbyid(datdba) INTO database_owner FROM pg_database WHERE datname = database;
    FOREACH member IN ARRAY ARRAY[steps, owner, database_owner] LOOP
        CONTINUE WHEN pg_has_role(administrator, member, 'USAGE');
        EXECUTE format('GRANT %I TO %I', member, administrator);
        borrowed := array_append(borrowed, member);
    END LOOP;

    IF owner <> steps THEN
        IF NOT pg_has_role(steps, owner, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I', owner, steps);
            RAISE NOTICE 'role % is a member of %, which owns the application''s tables', steps, owner;
        END IF;
        -- What a step makes is to belong to the tables' owner as well.
        IF NOT EXISTS (
            SELECT FROM pg_db_role_setting
            WHERE setrole = steps::regrole AND format('role=%s', owner) = ANY (setconfig)
                AND setdatabase = (SELECT oid FROM pg_database WHERE datname = database)
        ) THEN
            EXECUTE format('ALTER ROLE %I IN DATABASE %I SET role = %I', steps, database, owner);
            RAISE NOTICE 'role % acts as %', steps, owner;
        END IF;
    END IF;

    -- The database, the tables and schemas, where they are the administrator's.
    IF database_owner = administrator AND owner = steps THEN
        EXECUTE format('ALTER DATABASE %I OWNER TO %I', database, owner);
        RAISE NOTICE 'role % owns the database %', owner, database;
        database_owner := owner;
    END IF;
    IF owner = steps THEN
        FOR object IN
            SELECT c.relkind, n.nspname, c.relname, n.nspname = 'public' AS is_application
            FROM pg_class AS c INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
            WHERE pg_get_userbyid(c.relowner) = administrator
                AND c.relkind IN ('r', 'p', 'v', 'S')
                AND (
                    n.nspname = ANY (own_schemas)
                    OR n.nspname = 'public' AND (
                        c.relname = ANY (application_tables)
                        OR EXISTS (
                            SELECT FROM pg_partition_ancestors(c.oid) AS parent
                            INNER JOIN pg_class AS p ON parent.relid = p.oid
                            WHERE p.relnamespace = n.oid AND p.relname = ANY (application_tables)
                        )
                    )
                )
                -- A sequence of a column belongs to whom the table does.
                AND NOT EXISTS (
                    SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = c.oid
                        AND (deptype IN ('a', 'i') AND c.relkind = 'S' OR deptype = 'e')
                )
            ORDER BY c.relkind, n.nspname, c.relname
        LOOP
            EXECUTE format(
                'ALTER %s %I.%I OWNER TO %I',
                CASE object.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                object.nspname, object.relname, owner
            );
            IF object.is_application THEN
                -- The application may be logging in as the administrator.
                EXECUTE format('GRANT ALL ON %I.%I TO %I', object.nspname, object.relname,
                    administrator);
            END IF;
            RAISE NOTICE 'role % owns %.%', owner, object.nspname, object.relname;
        END LOOP;
        FOR object IN
            SELECT p.oid::regprocedure AS signature
            FROM pg_proc AS p INNER JOIN pg_namespace AS n ON p.pronamespace = n.oid
            WHERE pg_get_userbyid(p.proowner) = administrator AND n.nspname = ANY (own_schemas)
            ORDER BY 1
        LOOP
            EXECUTE format('ALTER ROUTINE %s OWNER TO %I', object.signature, owner);
            RAISE NOTICE 'role % owns %', owner, object.signature;
        END LOOP;
        FOR object IN
            SELECT nspname FROM pg_namespace
            WHERE pg_get_userbyid(nspowner) = administrator AND nspname = ANY (own_schemas)
            ORDER BY 1
        LOOP
            EXECUTE format('ALTER SCHEMA %I OWNER TO %I', object.nspname, owner);
            RAISE NOTICE 'role % owns the schema %', owner, object.nspname;
        END LOOP;
    END IF;

    -- What a role needs before it may do anything to a table.
    FOR object IN
        SELECT grantee, privilege
        FROM (
            VALUES
            (owner, 'CONNECT'), (owner, 'TEMPORARY'), (owner, 'CREATE'), (steps, 'CONNECT'),
            (workers, 'CONNECT'), (workers, 'TEMPORARY')
        ) AS wanted (grantee, privilege)
        WHERE NOT EXISTS (
            SELECT FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS given
            WHERE datname = database AND given.grantee = wanted.grantee::regrole
                AND privilege_type = privilege
        )
    LOOP
        EXECUTE format('GRANT %s ON DATABASE %I TO %I', object.privilege, database, object.grantee);
        RAISE NOTICE 'role % has % on the database %', object.grantee, object.privilege, database;
    END LOOP;
    FOR object IN
        SELECT grantee, privilege
        FROM (VALUES (owner, 'USAGE'), (owner, 'CREATE'), (workers, 'USAGE'))
            AS wanted (grantee, privilege)
        -- PUBLIC, whom the schema may be open to, may be shut out one day.
        WHERE NOT EXISTS (
            SELECT FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS given
            WHERE nspname = 'public' AND privilege_type = privilege AND given.grantee IN (
                wanted.grantee::regrole,
                CASE WHEN database_owner = wanted.grantee THEN 'pg_database_owner'::regrole END
            )
        )
    LOOP
        EXECUTE format('GRANT %s ON SCHEMA public TO %I', object.privilege, object.grantee);
        RAISE NOTICE 'role % has % on the schema public', object.grantee, object.privilege;
    END LOOP;
    IF has_schema_privilege('public', 'public', 'CREATE') THEN
        RAISE WARNING 'everybody may create tables in the schema public, the workers too: REVOKE'
            ' CREATE ON SCHEMA public FROM PUBLIC, if the application lets you';
    END IF;

    -- To tell how far replicas are behind, and who holds a lock.
    IF NOT pg_has_role(owner, 'pg_read_all_stats', 'USAGE') THEN
        BEGIN
            EXECUTE format('GRANT pg_read_all_stats TO %I', owner);
            RAISE NOTICE 'role % sees the activity of all sessions', owner;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'role % does not see how far replicas are behind: % may not GRANT'
                ' pg_read_all_stats', owner, administrator;
        END;
    END IF;

    FOREACH member IN ARRAY borrowed LOOP
        EXECUTE format('REVOKE %I FROM %I', member, administrator);
    END LOOP;
END
$roles$;
