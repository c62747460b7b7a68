-- The roles of PostgreSQL that the mirror works with, and what each may do, for psql 15 or later as a superuser. Run it before
-- the first `migrate`, which it makes role and database for, and after each `migrate`: rights are given on tables that exist.
-- It can be run any number of times, and takes rights on the mirror's tables away that are not listed here.
--
--   OWNER_PASSWORD=… SERVICE_PASSWORD=… psql -d postgres -f roles.sql
--
-- | Role           | Variables              | Commands |
-- |----------------|------------------------|----------|
-- | mirror_owner   | owner, OWNER_PASSWORD  | migrate; prune; replay where it has to make tables that were dropped |
-- | mirror         | service, SERVICE_PASSWORD | serve, replay, backfill, reconcile, relay, check, simulate --rows |
-- | mirror_eraser  | eraser, ERASER_PASSWORD | erase-user |
-- | mirror_read    | analyst, ANALYST_PASSWORD | none: people and programs that read by SQL |
--
-- Other names by `-v owner=…`, `-v service=…`, `-v eraser=…`, `-v analyst=…`, `-v database=…`. Passwords come from the
-- environment, where other users of the machine do not see them; a role without one keeps the one that it has, or logs in
-- by what pg_hba.conf says of it (peer, certificate).
--
-- `-v analyst_bodies=off` takes `ledger` and `ledger_entries`, where the raw bodies stand, from analysts, `on` gives them.
-- Without the variable that stays as it is: a role that reads `groups` and not `ledger` gets no bodies. At first it reads both.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner}
\else
    \set owner mirror_owner
\endif
\if :{?service}
\else
    \set service mirror
\endif
\if :{?eraser}
\else
    \set eraser mirror_eraser
\endif
\if :{?analyst}
\else
    \set analyst mirror_read
\endif
\if :{?database}
\else
    \set database mirror
\endif
\getenv owner_password OWNER_PASSWORD
\getenv service_password SERVICE_PASSWORD
\getenv eraser_password ERASER_PASSWORD
\getenv analyst_password ANALYST_PASSWORD

SET client_min_messages = warning;
-- Nothing that is sent here belongs into the server's log, passwords least of all.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY[:'owner', :'service', :'eraser', :'analyst']) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
\if :{?owner_password}
    ALTER ROLE :"owner" PASSWORD :'owner_password';
\endif
\if :{?service_password}
    ALTER ROLE :"service" PASSWORD :'service_password';
\endif
\if :{?eraser_password}
    ALTER ROLE :"eraser" PASSWORD :'eraser_password';
\endif
\if :{?analyst_password}
    ALTER ROLE :"analyst" PASSWORD :'analyst_password';
\endif
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'database', :'owner')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

\connect :"database"
SET client_min_messages = warning;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"service", :"eraser", :"analyst";
GRANT ALL ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"service", :"eraser", :"analyst";

-- What each role may do on each table; a table that does not exist yet is left out until `migrate` has made it.
CREATE TEMPORARY TABLE rights (name text, serve text, erase text);
INSERT INTO rights (name, serve, erase) VALUES
    ('ledger',                    'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('ledger_moves',              'SELECT, INSERT',                 NULL),
    ('ledger_people',             'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('feed',                      'SELECT, UPDATE',                 NULL),
    ('feed_marks',                'SELECT, INSERT, DELETE',         NULL),
    ('relay_outbox',              'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('relay_skipped',             'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('database_identity',         'SELECT',                         NULL),
    ('groups',                    'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_members',             'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_user_defined_fields', 'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_attributes',          'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_topics',              'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_list_ranges',         'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_verifications',       'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('reconcile_lease',           'SELECT, UPDATE',                 NULL),
    ('reconcile_passes',          'SELECT, INSERT, UPDATE',         NULL),
    ('group_reads',               'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_read_digests',        'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('group_work',                'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('gone_candidates',           'SELECT, INSERT, DELETE',         NULL),
    ('list_pages',                'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('id_list_passes',            'SELECT, INSERT, UPDATE',         NULL),
    ('drift_totals',              'SELECT, INSERT, UPDATE',         NULL),
    ('gaps',                      'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('erasure_state',             'SELECT',                         'UPDATE'),
    ('erasures',                  'SELECT',                         'INSERT, UPDATE'),
    ('replica_marks',             'SELECT, INSERT, UPDATE, DELETE', NULL),
    ('checkpoints',               'SELECT',                         'INSERT, UPDATE, DELETE'),
    ('prune_state',               'SELECT',                         'UPDATE'),
    ('_sqlx_migrations',          'SELECT',                         NULL);

CREATE TEMPORARY VIEW existing AS
SELECT c.oid, c.relname AS name, c.relkind AS kind, c.relispartition AS is_partition
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S');

-- The functions that statements call, and whether people who read by SQL need them.
CREATE TEMPORARY VIEW calls AS
SELECT p.oid::regprocedure AS call, f.for_analysts
  FROM (VALUES ('ledger_body_text', true), ('ledger_client_ip', true), ('ledger_partition_bounds', true),
               ('ledger_partition_step', false), ('ledger_platform', true), ('ledger_request_id', true),
               ('ledger_user_count', true), ('ledger_users', true))
       AS f (name, for_analysts)
  JOIN pg_proc p ON p.proname = f.name AND p.pronamespace = 'public'::regnamespace;

\if :{?analyst_bodies}
\else
    SELECT CASE WHEN bool_or(name = 'groups' AND is_read) AND NOT bool_or(name = 'ledger' AND is_read) THEN 'off' ELSE 'on' END
           AS analyst_bodies
      FROM (SELECT name, has_table_privilege(:'analyst', oid, 'SELECT') AS is_read FROM existing WHERE kind <> 'S') AS found \gset
\endif

BEGIN;
SELECT format('REVOKE ALL ON %s public.%I FROM %I, %I, %I', CASE kind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name,
              :'service', :'eraser', :'analyst')
  FROM existing \gexec
SELECT format('GRANT %s ON public.%I TO %I', serve, name, :'service') FROM rights JOIN existing USING (name) \gexec
SELECT format('GRANT %s ON public.%I TO %I', erase, name, :'eraser') FROM rights JOIN existing USING (name)
 WHERE erase IS NOT NULL \gexec
-- Views show what the tables hold. UPDATE on the sequence moves it behind the newest entry after a restore.
SELECT format('GRANT SELECT ON public.%I TO %I', name, :'service') FROM existing WHERE kind = 'v' \gexec
SELECT format('GRANT USAGE, SELECT, UPDATE ON SEQUENCE public.%I TO %I', name, :'service') FROM existing
 WHERE kind = 'S' \gexec
-- Named one by one, because EXECUTE may have been taken from PUBLIC. The step of the partitions runs with the rights of the
-- owner and holds its locks until the transaction of its caller ends: no analyst may call it.
-- PUBLIC may not call it either: a dump that is loaded without its rights gives that back.
SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
 WHERE pronamespace = 'public'::regnamespace AND proname IN ('ledger_new_partition', 'ledger_partition_step') \gexec
SELECT format('REVOKE ALL ON FUNCTION %s FROM %I, %I, %I', call, :'service', :'eraser', :'analyst') FROM calls \gexec
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', call, :'service') FROM calls \gexec
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', call, :'analyst') FROM calls WHERE for_analysts \gexec
-- To erase a person is to do everything else, too.
GRANT :"service" TO :"eraser";
-- Analysts read everything, raw bodies included unless analyst_bodies is off, except what hides the ids of erased persons:
-- with the key in these two tables a guess can be tested. A partition is read by way of its table, so that what is revoked
-- from the table is not open there.
SELECT format('GRANT SELECT ON public.%I TO %I', name, :'analyst') FROM existing
 WHERE kind <> 'S' AND NOT is_partition AND name NOT IN ('erasure_state', 'erasures')
   AND (:'analyst_bodies'::boolean OR name NOT IN ('ledger', 'ledger_entries')) \gexec
COMMIT;
SELECT count(*) = 0 AS is_empty, NOT :'analyst_bodies'::boolean AS is_closed FROM existing \gset
\if :is_closed
    \echo :analyst 'reads no raw bodies: neither ledger nor ledger_entries (-v analyst_bodies=on gives them).'
\endif
\if :is_empty
    \echo 'Roles and database are there. Next: group-mirror migrate as the owner, then this file again, with the same variables.'
\else
    \echo 'Roles, database and rights are there.'
\endif
