-- The one source of truth. Everything the mirror learns is a row here, written in the same transaction as its effect. The tables
-- of the mirror are a fold of this one and can be rebuilt from it (`group-mirror replay`); where old entries were pruned, of their
-- checkpoints (migration 0014) and what is left here.
--
-- A stamp, in all tables: 17 bytes of bytea, which are the event time in milliseconds (8 bytes, big-endian), the rank
-- of the command (1 byte) and the first 8 bytes of the digest. The greater stamp is newer, and the empty bytea means
-- "never". It is never NULL: a comparison with NULL would let nothing land.

-- The ledger is partitioned by time (PARTITION BY RANGE), so that an insert touches the index leaves of one period, and an
-- old period is vacuumed and frozen once. `time_ms` is in the key, so an equal key is a repeat within its
-- partition, and everywhere. The partitions leave no hole: one for everything before the first week, one for each week, and
-- the default one for what is later than the last of them. `ledger_partition_step` below makes them.
CREATE SEQUENCE ledger_position_seq;

-- The columns stand in the order of their alignment, so that no byte is lost between them (docs/decisions/0030).
CREATE TABLE ledger (
    sdk_app_id    bigint      NOT NULL,
    time_ms       bigint      NOT NULL,
    event_time_ms bigint,
    received_at   timestamptz NOT NULL,
    position      bigint      NOT NULL DEFAULT nextval('ledger_position_seq'),
    user_count    integer,
    platform      smallint,
    body          bytea       NOT NULL,
    group_id      text        COLLATE "C" NOT NULL,
    digest        bytea       NOT NULL,
    command       text        NOT NULL,
    source        text        NOT NULL,
    outcome       text        NOT NULL,
    request_id    uuid,
    client_ip     inet,
    operator      text        COLLATE "C",
    user_id       text        COLLATE "C",
    users         text[]      COLLATE "C",
    reason        text,
    causes        text[]      COLLATE "C",
    query_command text,
    query         text,
    content_type  text,
    odd_values    jsonb,
    CONSTRAINT ledger_pkey PRIMARY KEY (sdk_app_id, group_id, time_ms, digest),
    CONSTRAINT ledger_digest_check CHECK (octet_length(digest) = 16),
    CONSTRAINT ledger_source_check CHECK (source IN ('callback', 'rest')),
    CONSTRAINT ledger_outcome_check CHECK (outcome IN ('applied', 'partial', 'parked')),
    CONSTRAINT ledger_reason_check CHECK ((outcome <> 'applied') = (reason IS NOT NULL)),
    CONSTRAINT ledger_causes_check CHECK ((outcome <> 'applied') = (causes IS NOT NULL) AND cardinality(causes) > 0),
    CONSTRAINT ledger_users_check CHECK (user_id IS NULL OR users IS NULL)
) PARTITION BY RANGE (time_ms);
ALTER SEQUENCE ledger_position_seq OWNED BY ledger.position;

-- What came in the query stands in a column of a smaller type where its text follows from that byte for byte, else in
-- odd_values as it came. These functions read it back; the planner puts what they say into the statement.
CREATE FUNCTION ledger_request_id(request_id uuid, odd_values jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(request_id::text, odd_values ->> 'RequestID');
COMMENT ON FUNCTION ledger_request_id IS 'RequestID of the query, as it came.';

CREATE FUNCTION ledger_client_ip(client_ip inet, odd_values jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(host(client_ip), odd_values ->> 'ClientIP');
COMMENT ON FUNCTION ledger_client_ip IS 'ClientIP of the query, as it came.';

-- The numbers are stored and never change.
CREATE FUNCTION ledger_platform(platform smallint, odd_values jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE((ARRAY['RESTAPI', 'Web', 'Android', 'iOS', 'Windows', 'iPad', 'macOS', 'Mac', 'Unknown'])[platform],
                    odd_values ->> 'OptPlatform');
COMMENT ON FUNCTION ledger_platform IS 'OptPlatform of the query, as it came.';

-- An array takes 24 bytes beside what is in it, and most entries are about one user.
CREATE FUNCTION ledger_users(user_id text, users text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN user_id IS NULL THEN users ELSE ARRAY[user_id] END;
COMMENT ON FUNCTION ledger_users IS 'The first 5 of the users that an entry is about; NULL where there are none.';

CREATE FUNCTION ledger_user_count(user_count integer, user_id text, users text[]) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(user_count, CASE WHEN user_id IS NULL THEN cardinality(users) ELSE 1 END, 0);
COMMENT ON FUNCTION ledger_user_count IS 'How many users an entry is about.';

-- Finds the entry of a request by its digest, which holds the RequestID where no event time is believed: a repeat of such
-- a request has another receipt, and so another key. Not unique, so that the table can be partitioned by time; writers
-- keep two receipts apart by a lock on the digest.
CREATE INDEX ledger_request_idx ON ledger (sdk_app_id, group_id, digest)
    WHERE event_time_ms IS DISTINCT FROM time_ms AND ledger_request_id(request_id, odd_values) IS NOT NULL;

-- The order of the feed. Numbers are given before the commit, so a reader waits for those who are still writing
-- (store/high_watermark.rs); a duplicate leaves a hole. Unlike transaction ids they go on after a dump and restore. Not unique: a
-- sequence that was left behind must not make an insert fail.
CREATE INDEX ledger_position_idx ON ledger (position);

-- Serves the list, the counts and `replay --parked` of what was parked or read in part. Partial, so that what is applied,
-- nearly everything, costs nothing.
CREATE INDEX ledger_unread_idx ON ledger (sdk_app_id, received_at, digest) WHERE outcome <> 'applied';

-- The history of an app, newest first, and windows of time in it. Entries of one millisecond are few and are sorted by digest
-- and group when they are read: the digest in the index would more than double it. `+ 0` keeps all other statements off it, which
-- would read the app until they find a group: a planner takes it for the history of a group, and it takes any index for a
-- partition in which there is no entry yet, and keeps to that plan while the partition fills.
CREATE INDEX ledger_time_idx ON ledger ((sdk_app_id + 0), (time_ms + 0));

COMMENT ON TABLE ledger IS 'Every callback and every REST answer that was accepted, with its bytes; changed only to apply what was parked or skipped, to note an earlier receipt, or to erase a person; removed only by prune, or as a parked repeat.';
COMMENT ON COLUMN ledger.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN ledger.group_id IS 'The group; empty where it cannot be read.';
COMMENT ON COLUMN ledger.time_ms IS 'Unix milliseconds: the event time where it is believed, else the time of first receipt.';
COMMENT ON COLUMN ledger.digest IS 'The first 16 bytes of the SHA-256 of command and canonical body without EventTime, or with RequestID where no event time is believed; equal for every repeat.';
COMMENT ON COLUMN ledger.command IS 'CallbackCommand of the body, else of the query.';
COMMENT ON COLUMN ledger.event_time_ms IS 'EventTime as sent, Unix milliseconds; NULL where absent or not a number.';
COMMENT ON COLUMN ledger.received_at IS 'Time of first receipt, fixed before the first attempt to commit.';
COMMENT ON COLUMN ledger.source IS 'callback or rest.';
COMMENT ON COLUMN ledger.outcome IS 'applied; partial: applied but for what reason says; or parked: authentic, but it cannot be applied.';
COMMENT ON COLUMN ledger.reason IS 'Why it is parked, or what was skipped of it; NULL where it is applied.';
COMMENT ON COLUMN ledger.causes IS 'Labels of the causes in reason, out of a closed list, for counts and filters; NULL where it is applied.';
COMMENT ON COLUMN ledger.query_command IS 'CallbackCommand of the query where it differs from command.';
COMMENT ON COLUMN ledger.client_ip IS 'ClientIP of the query, whose action it was, where its text is the usual one of an address; else NULL.';
COMMENT ON COLUMN ledger.platform IS 'OptPlatform of the query: 1 RESTAPI, 2 Web, 3 Android, 4 iOS, 5 Windows, 6 iPad, 7 macOS, 8 Mac, 9 Unknown; NULL where it is another one.';
COMMENT ON COLUMN ledger.request_id IS 'RequestID of the query, where it is a UUID in lower case; else NULL. Seen, not documented.';
COMMENT ON COLUMN ledger.query IS 'Query string as it came, without Sign and RequestTime; NULL where the app had no relay at its receipt.';
COMMENT ON COLUMN ledger.content_type IS 'Content-Type as it came, each byte as the character of its number; NULL where absent, or where the app had no relay.';
COMMENT ON COLUMN ledger.operator IS 'Who did it, as far as the entry was read; NULL where it names none.';
COMMENT ON COLUMN ledger.user_id IS 'The user that the entry is about, as users say, where it is one.';
COMMENT ON COLUMN ledger.users IS 'The first 5 of the users that the entry is about, as far as it was read, where they are several: who joined, left or was changed, or was there from the start; of a list of members those who were shown and are not in it. NULL where there is one or none.';
COMMENT ON COLUMN ledger.user_count IS 'How many users the entry is about, where these are more than user_id or users name; else NULL.';
COMMENT ON COLUMN ledger.position IS 'Place in the feed of changes; an entry that is changed (read further after an update, or received earlier than was known) moves to the end.';
COMMENT ON COLUMN ledger.odd_values IS 'Those of ClientIP, OptPlatform and RequestID of the query whose text their columns cannot hold, by these names; NULL where there are none.';
COMMENT ON COLUMN ledger.body IS 'The body as it came; it may hold NUL, broken UTF-8 or no JSON at all.';

-- Bodies for people who read by SQL. A body may hold NUL and bytes that are no UTF-8, at which convert_from fails, and with
-- it the whole query. The bytes are looked at as hexadecimal digits, two for each: what is a character of UTF-8 stays, any
-- other byte becomes U+FFFD.
CREATE FUNCTION ledger_body_text(body bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    -- Without NUL, overlong forms, surrogates, and what lies beyond U+10FFFF.
    good CONSTANT text := '(?:(?:0[1-9a-f]|[1-7][0-9a-f])|(?:c[2-9a-f]|d[0-9a-f])[89ab][0-9a-f]'
        '|(?:e0[ab][0-9a-f]|e[1-9a-cef][89ab][0-9a-f]|ed[89][0-9a-f])[89ab][0-9a-f]'
        '|(?:f0[9ab][0-9a-f]|f[1-3][89ab][0-9a-f]|f48[0-9a-f])(?:[89ab][0-9a-f]){2})';
    digits CONSTANT text := encode(body, 'hex');
BEGIN
    IF digits ~ ('^' || good || '*$') THEN
        RETURN convert_from(body, 'UTF8');
    END IF;
    RETURN convert_from(decode((
        SELECT string_agg(CASE WHEN part[1] ~ ('^' || good || '+$') THEN part[1] ELSE 'efbfbd' END, '' ORDER BY number)
          FROM regexp_matches(digits, '(' || good || '+|..)', 'g') WITH ORDINALITY AS parts (part, number)), 'hex'), 'UTF8');
END $$;
COMMENT ON FUNCTION ledger_body_text IS 'A body as text; NUL and bytes that are no UTF-8 are shown as U+FFFD. Never fails.';

CREATE VIEW ledger_entries AS
SELECT sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, reason, causes,
       query_command, ledger_client_ip(client_ip, odd_values) AS client_ip, ledger_platform(platform, odd_values) AS platform,
       ledger_request_id(request_id, odd_values) AS request_id, query, content_type, operator,
       ledger_users(user_id, users) AS users, ledger_user_count(user_count, user_id, users) AS user_count, position,
       ledger_body_text(body) AS body
  FROM ledger;

COMMENT ON VIEW ledger_entries IS 'The ledger, with bodies as text that cannot fail.';
COMMENT ON COLUMN ledger_entries.sdk_app_id IS 'Number of the Tencent Cloud Chat application.';
COMMENT ON COLUMN ledger_entries.group_id IS 'The group; empty where it cannot be read.';
COMMENT ON COLUMN ledger_entries.time_ms IS 'Unix milliseconds: the event time where it is believed, else the time of first receipt.';
COMMENT ON COLUMN ledger_entries.digest IS 'The first 16 bytes of the SHA-256 of command and canonical body without EventTime, or with RequestID where no event time is believed; equal for every repeat.';
COMMENT ON COLUMN ledger_entries.command IS 'CallbackCommand of the body, else of the query.';
COMMENT ON COLUMN ledger_entries.event_time_ms IS 'EventTime as sent, Unix milliseconds; NULL where absent or not a number.';
COMMENT ON COLUMN ledger_entries.received_at IS 'Time of first receipt, fixed before the first attempt to commit.';
COMMENT ON COLUMN ledger_entries.source IS 'callback or rest.';
COMMENT ON COLUMN ledger_entries.outcome IS 'applied; partial: applied but for what reason says; or parked: authentic, but it cannot be applied.';
COMMENT ON COLUMN ledger_entries.reason IS 'Why it is parked, or what was skipped of it; NULL where it is applied.';
COMMENT ON COLUMN ledger_entries.causes IS 'Labels of the causes in reason, out of a closed list, for counts and filters; NULL where it is applied.';
COMMENT ON COLUMN ledger_entries.query_command IS 'CallbackCommand of the query where it differs from command.';
COMMENT ON COLUMN ledger_entries.client_ip IS 'ClientIP of the query: whose action it was.';
COMMENT ON COLUMN ledger_entries.platform IS 'OptPlatform of the query; free text.';
COMMENT ON COLUMN ledger_entries.request_id IS 'RequestID of the query; seen, not documented.';
COMMENT ON COLUMN ledger_entries.query IS 'Query string as it came, without Sign and RequestTime; NULL where the app had no relay at its receipt.';
COMMENT ON COLUMN ledger_entries.content_type IS 'Content-Type as it came, each byte as the character of its number; NULL where absent, or where the app had no relay.';
COMMENT ON COLUMN ledger_entries.operator IS 'Who did it, as far as the entry was read; NULL where it names none.';
COMMENT ON COLUMN ledger_entries.users IS 'The first 5 of the users that the entry is about, as far as it was read: who joined, left or was changed, or was there from the start; of a list of members those who were shown and are not in it. NULL where there are none.';
COMMENT ON COLUMN ledger_entries.user_count IS 'How many users the entry is about.';
COMMENT ON COLUMN ledger_entries.position IS 'Place in the feed of changes; an entry that is changed (read further after an update, or received earlier than was known) moves to the end.';
COMMENT ON COLUMN ledger_entries.body IS 'The body as text; NUL and bytes that are no UTF-8 are shown as U+FFFD. The bytes as they came are in the table.';

-- The partitions of a table of the ledger, in Unix milliseconds: from the start on, before the end. No start: everything
-- before the end; neither: the default one.
CREATE FUNCTION ledger_partition_bounds(parent text) RETURNS TABLE (part text, begin_ms bigint, end_ms bigint)
LANGUAGE sql STABLE AS $$
    SELECT c.relname::text,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(-?\d+)''\)'))[1]::bigint,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''(-?\d+)''\)'))[1]::bigint
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = to_regclass(parent)
$$;
COMMENT ON FUNCTION ledger_partition_bounds IS 'The partitions of a table of the ledger and their bounds in Unix milliseconds; the default one has none.';

-- A partition of a table, not attached yet. Rows are added and seldom changed, so only inserts lead to a vacuum: often
-- enough to keep it short, and it freezes at once what no later one then has to visit. The rights of the table count for what
-- is read and written through it; a partition has none of its own, or `ALTER DEFAULT PRIVILEGES` would open to a role what
-- was revoked from it on the table. A publication of all tables must not refuse changes, hence the replica identity.
CREATE FUNCTION ledger_new_partition(parent text, part text, described text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    grantee oid;
    has_key CONSTANT boolean := EXISTS (SELECT FROM pg_index WHERE indrelid = parent::regclass AND indisprimary);
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (autovacuum_vacuum_insert_scale_factor = 0, '
                   'autovacuum_vacuum_insert_threshold = 100000, autovacuum_freeze_min_age = 0)', part, parent);
    EXECUTE format('ALTER TABLE %I REPLICA IDENTITY %s', part, CASE WHEN has_key THEN 'DEFAULT' ELSE 'FULL' END);
    EXECUTE format('COMMENT ON TABLE %I IS %L', part, described);
    FOR grantee IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
                    WHERE c.oid = to_regclass(quote_ident(part)) AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %I FROM %s', part,
                       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END);
    END LOOP;
END $$;
COMMENT ON FUNCTION ledger_new_partition IS 'Makes a table that can be attached as a partition, with the settings of an append-only table and without rights of its own.';

SELECT ledger_new_partition('ledger', 'ledger_default', 'The partition of the ledger for entries that are later than any other.');
ALTER TABLE ledger ATTACH PARTITION ledger_default DEFAULT;

-- One step towards partitions for the next four weeks; answers what it did, and NULL where nothing is left to do. Each step is a
-- transaction of its own, so that it holds its locks for a moment. Where the default partition is empty, a step locks that one
-- against everything, and the table against other changes of its form alone: a writer whose entry has a partition waits for
-- neither, a statement that opens all partitions does. A step that moves entries, or exchanges the default partition, locks the
-- table against everything. A step that does not get a lock in 0.2 s fails and is taken later. It runs
-- with the rights of the owner of the tables (SECURITY DEFINER), because the role of the service owns none. It takes no
-- argument, so that who calls it decides nothing; but its locks are held until the transaction of its caller ends, so
-- PUBLIC may not call it.
--
-- A new partition is attached while it is empty. What the default one holds of its range, where the service could make no
-- partition in time, is moved in the same transaction up to 10,000 entries, with the table locked against everything. Where
-- there are more, no entry is moved: the default partition itself becomes the partition of all that it holds, and a new one
-- takes its place. A CHECK constraint with the bounds is added and validated before, which writers and readers do not notice,
-- so that the exchange reads no entry.
CREATE FUNCTION ledger_partition_step() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '200ms' AS $$
DECLARE
    day       CONSTANT bigint := 24 * 60 * 60 * 1000;
    week      CONSTANT bigint := 7 * day;
    -- Weeks begin on Mondays, in UTC; the first one of Unix time.
    monday    CONSTANT bigint := 4 * day;
    moved_max CONSTANT bigint := 10000;
    now_ms    CONSTANT bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    parent    text;
    spare     text;
    part      text;
    first_ms  bigint;
    end_ms    bigint;
    known_ms  bigint;
    held      bigint;
    bound     text;
    is_valid  boolean;
    described text;
BEGIN
    -- Of several that call it at once one works. The others wait, for 0.2 s, and then find the next step to do or fail.
    PERFORM pg_advisory_xact_lock(7203391846551120437);
    FOREACH parent IN ARRAY ARRAY['ledger', 'ledger_people'] LOOP
        spare := parent || '_default';
        -- Where the partitions end that are there; NULL where there is none yet.
        SELECT max(b.end_ms) INTO first_ms FROM ledger_partition_bounds(parent) b;
        IF parent = 'ledger' THEN
            CONTINUE WHEN first_ms >= now_ms + 4 * week;
            end_ms := (CASE WHEN first_ms IS NULL THEN now_ms ELSE greatest(first_ms, now_ms) + week END - monday)
                      / week * week + monday;
        ELSE
            -- Cut where the ledger is, which has its partitions by now.
            SELECT min(b.end_ms) INTO end_ms FROM ledger_partition_bounds('ledger') b
             WHERE b.begin_ms IS NOT DISTINCT FROM first_ms AND b.end_ms IS NOT NULL;
            CONTINUE WHEN end_ms IS NULL;
        END IF;

        SELECT pg_get_constraintdef(c.oid), c.convalidated INTO bound, is_valid
          FROM pg_constraint c WHERE c.conrelid = to_regclass(spare) AND c.conname = spare || '_bound';
        IF bound IS NULL THEN
            EXECUTE format('SELECT count(*) FROM (SELECT FROM %I WHERE time_ms >= %L AND time_ms < %L LIMIT %s) r', spare,
                           COALESCE(first_ms, '-9223372036854775808'), end_ms, moved_max + 1) INTO held;
            IF held > moved_max THEN
                -- Far enough ahead that no row which comes meanwhile is later: bounds that end soon would refuse it.
                EXECUTE format('SELECT max(time_ms) FROM %I', spare) INTO known_ms;
                IF parent = 'ledger' THEN
                    IF known_ms > now_ms + 366 * day THEN
                        RAISE EXCEPTION 'the default partition of the ledger holds an entry of %, more than a year ahead; correct '
                                        'the clock that gave it this time, and the entry', to_timestamp(known_ms / 1000);
                    END IF;
                    end_ms := (greatest(first_ms, now_ms + week + day, known_ms) + week - monday) / week * week + monday;
                ELSIF end_ms < greatest(now_ms + 2 * day, known_ms + 1) THEN
                    -- One partition over several of the ledger's: there may be thousands of users to an entry.
                    SELECT max(b.end_ms) INTO end_ms FROM ledger_partition_bounds('ledger') b;
                    IF known_ms >= end_ms THEN
                        RAISE EXCEPTION 'the default partition of ledger_people holds a row of %, weeks ahead; correct the clock '
                                        'that gave its entry this time, and both', to_timestamp(known_ms / 1000);
                    END IF;
                END IF;
                EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I CHECK (time_ms < %s%s) NOT VALID', spare, spare || '_bound', end_ms,
                               CASE WHEN first_ms IS NULL THEN '' ELSE format(' AND time_ms >= %s', first_ms) END);
                RETURN format('%s holds entries of its own, and becomes a partition in three steps', spare);
            END IF;
        ELSE
            end_ms := (regexp_match(bound, 'time_ms < ''?(\d+)'))[1];
            IF end_ms < now_ms + 2 * day THEN
                -- No call went on in time, and entries of today must not be refused.
                EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', spare, spare || '_bound');
                RETURN format('%s takes entries of any time again', spare);
            ELSIF NOT is_valid THEN
                EXECUTE format('ALTER TABLE %I VALIDATE CONSTRAINT %I', spare, spare || '_bound');
                RETURN format('%s is looked through', spare);
            END IF;
        END IF;

        part := parent || CASE WHEN first_ms IS NULL THEN '_past'
                               ELSE to_char(to_timestamp(first_ms / 1000) AT TIME ZONE 'UTC', '_YYYYMMDD') END;
        described := format('Partition of %s, %sbefore %s (UTC).', parent,
                            COALESCE(to_char(to_timestamp(first_ms / 1000) AT TIME ZONE 'UTC', '"from "YYYY-MM-DD" on, "'), ''),
                            to_char(to_timestamp(end_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
        IF bound IS NULL THEN
            IF held > 0 THEN
                -- A statement is planned for the partitions that it finds when it gets its lock on the table, and is run with a
                -- newer snapshot: rows that moved in between would stand in a partition that the plan does not open.
                EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
            END IF;
            PERFORM ledger_new_partition(parent, part, described);
            IF held > 0 THEN
                EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', spare);
                EXECUTE format('WITH moved AS (DELETE FROM %I WHERE time_ms >= %L AND time_ms < %L RETURNING *)
                                INSERT INTO %I SELECT * FROM moved', spare,
                               COALESCE(first_ms, '-9223372036854775808'), end_ms, part);
            END IF;
        ELSE
            EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, spare);
            EXECUTE format('ALTER TABLE %I RENAME TO %I', spare, part);
            EXECUTE format('COMMENT ON TABLE %I IS %L', part, described);
        END IF;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part,
                       COALESCE(quote_literal(first_ms), 'MINVALUE'), end_ms);
        IF bound IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', part, spare || '_bound');
            PERFORM ledger_new_partition(parent, spare, format('The partition of %s for entries that are later than any other.', parent));
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I DEFAULT', parent, spare);
        END IF;
        RETURN part || ' is made';
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ledger_partition_step IS 'One step towards partitions of the ledger for the next four weeks, as the owner of the tables; NULL where nothing is left to do.';

-- A function that runs with the rights of its owner must not find its tables by the search path of its caller.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION ledger_partition_step() SET search_path = %I, pg_temp', current_schema());
END $$;

REVOKE EXECUTE ON FUNCTION ledger_partition_step(), ledger_new_partition(text, text, text) FROM PUBLIC;
