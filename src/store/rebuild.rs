//! What replay needs to write: locks on a range of groups, deletes of their rows, and tables and views that are missing.
//!
//! A rebuild of a range locks the rows of its groups; every writer takes those first, so it waits. A group that a writer
//! creates meanwhile has no row to lock and is not deleted either: its rows are newer than the fold. Missing tables are made
//! by the migrations themselves in a schema at the side, so that no second description of them exists.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::citus;
use super::lines::{Range, tables};
use super::schema::MIGRATOR;

/// The number of the advisory lock that keeps two replays apart, chosen at random.
pub(super) const REPLAY_LOCK: i64 = 0x6d69_7272_6f72_0001;

/// Where missing tables are made before they are moved.
const SIDE_SCHEMA: &str = "group_mirror_rebuild";

/// Takes the session's lock for replays; false if another session has it.
///
/// # Errors
/// The statement's.
pub async fn try_lock_replay(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(REPLAY_LOCK).fetch_one(conn).await
}

/// Gives the session's lock back.
///
/// # Errors
/// The statement's.
pub async fn unlock_replay(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(REPLAY_LOCK).execute(conn).await.map(drop)
}

const LOCK_GROUPS: &str = r"
SELECT sdk_app_id, group_id FROM groups
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)
 ORDER BY sdk_app_id, group_id FOR UPDATE";

const KEYS_OF_GROUPS: &str = r"
SELECT sdk_app_id, group_id FROM groups
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)
 ORDER BY sdk_app_id, group_id";

/// Deletes everything that the mirror holds of some groups, whose rows are locked.
///
/// # Errors
/// A statement's.
pub async fn clear_groups(conn: &mut PgConnection, locked: &[(i64, String)]) -> Result<(), sqlx::Error> {
    let (apps, groups): (Vec<i64>, Vec<&str>) =
        locked.iter().map(|(app, group)| (*app, group.as_str())).unzip();
    for table in tables().iter().rev() {
        let delete = format!(
            "DELETE FROM {} t USING UNNEST($1::bigint[], $2::text[]) AS k (app, id)
              WHERE t.sdk_app_id = k.app AND t.group_id = k.id",
            table.table
        );
        sqlx::query(AssertSqlSafe(delete)).bind(&apps).bind(&groups).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Deletes the rows of a range that have no group, which no writer makes.
///
/// # Errors
/// A statement's.
pub async fn clear_strays(conn: &mut PgConnection, (after, last): Range<'_>) -> Result<(), sqlx::Error> {
    for table in tables() {
        let delete = format!(
            "DELETE FROM {} t WHERE (t.sdk_app_id, t.group_id) > ($1, $2) AND (t.sdk_app_id, t.group_id) <= ($3, $4)
                AND NOT EXISTS (SELECT FROM groups g WHERE g.sdk_app_id = t.sdk_app_id AND g.group_id = t.group_id)",
            table.table
        );
        let query = sqlx::query(AssertSqlSafe(delete)).bind(after.0).bind(after.1).bind(last.0).bind(last.1);
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

const CLEAR_VERIFICATIONS: &str = r"
DELETE FROM group_verifications t
 WHERE (t.sdk_app_id, t.group_id) > ($1, $2) AND (t.sdk_app_id, t.group_id) <= ($3, $4)
   AND NOT EXISTS (SELECT FROM groups g WHERE g.sdk_app_id = t.sdk_app_id AND g.group_id = t.group_id)";

/// Deletes the freshness of groups of a range that the ledger does not know, once the range is written.
///
/// # Errors
/// The statement's.
pub async fn clear_verifications(
    conn: &mut PgConnection,
    (after, last): Range<'_>,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(CLEAR_VERIFICATIONS).bind(after.0).bind(after.1).bind(last.0).bind(last.1);
    query.execute(conn).await.map(drop)
}

const LOCK_GROUP: &str = "SELECT FROM groups WHERE sdk_app_id = $1 AND group_id = $2 FOR UPDATE";

/// Locks one group, if it has a row.
///
/// # Errors
/// The statement's.
pub async fn lock_group(conn: &mut PgConnection, (app, group): (i64, &str)) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK_GROUP).bind(app).bind(group).execute(conn).await.map(drop)
}

/// Locks the groups of a range.
///
/// # Errors
/// The statement's.
pub async fn lock(conn: &mut PgConnection, range: Range<'_>) -> Result<Vec<(i64, String)>, sqlx::Error> {
    if citus::is_there(conn).await? {
        return lock_each(conn, range).await;
    }
    groups_of(conn, LOCK_GROUPS, range).await
}

/// The same with a statement for each group, in the same order: Citus locks rows of one shard at once and of several not at all.
///
/// # Errors
/// A statement's.
async fn lock_each(conn: &mut PgConnection, range: Range<'_>) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let groups = groups_of(conn, KEYS_OF_GROUPS, range).await?;
    for (app, group) in &groups {
        lock_group(conn, (*app, group)).await?;
    }
    Ok(groups)
}

async fn groups_of(
    conn: &mut PgConnection,
    statement: &'static str,
    (after, last): Range<'_>,
) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let query = sqlx::query_as(statement).bind(after.0).bind(after.1).bind(last.0).bind(last.1);
    query.fetch_all(conn).await
}

/// The views of the mirror.
const VIEWS: [&str; 8] = [
    "group_states",
    "group_member_states",
    "group_topic_states",
    "active_groups",
    "active_group_members",
    "active_group_user_defined_fields",
    "active_group_attributes",
    "active_group_topics",
];

/// The tables beside the fold, which replay makes where they are not there and otherwise leaves alone.
const BESIDE: [&str; 12] = [
    "ledger_people",
    "feed_marks",
    "group_verifications",
    "id_list_passes",
    "drift_totals",
    "gaps",
    "reconcile_passes",
    "group_reads",
    "group_read_digests",
    "group_work",
    "gone_candidates",
    "list_pages",
];

/// The tables that say what the ledger does not. Those that say who is erased would be empty, with another key, and what comes
/// late about these persons would enter the mirror again; without checkpoints the mirror would lose what was pruned.
const BESIDE_LEDGER: [&str; 4] = ["erasure_state", "erasures", "checkpoints", "prune_state"];

const ABSENT: &str = "SELECT name FROM UNNEST($1::text[]) AS wanted (name)
 WHERE to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) IS NULL";

/// The names among these that the schema does not have.
async fn absent(conn: &mut PgConnection, names: &[&str]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(ABSENT).bind(names).fetch_all(conn).await
}

/// True when there is a ledger to rebuild from.
///
/// # Errors
/// The statement's.
pub async fn has_ledger(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    Ok(absent(conn, &["ledger"]).await?.is_empty())
}

/// The tables and views of the mirror that are not there.
///
/// # Errors
/// The statement's.
pub async fn missing(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let tables = tables();
    let tables = tables.iter().map(|table| table.table).chain(BESIDE);
    let names: Vec<&str> = tables.chain(VIEWS).collect();
    absent(conn, &names).await
}

/// Which of the tables are not there that say what the ledger does not: who is erased, and what was pruned.
///
/// # Errors
/// The statement's.
pub async fn missing_beside_ledger(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    absent(conn, &BESIDE_LEDGER).await
}

const MISSING: &str = r"
SELECT c.relname::text, c.relkind = 'v', format('CREATE VIEW %I AS %s', c.relname, pg_get_viewdef(c.oid)),
       format('COMMENT ON VIEW %I IS %L', c.relname, obj_description(c.oid, 'pg_class')) || (
           SELECT string_agg(format('; COMMENT ON COLUMN %I.%I IS %L', c.relname, a.attname,
                                    col_description(c.oid, a.attnum)), '' ORDER BY a.attnum)
             FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)
  FROM pg_class c
 WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relname <> 'database_identity'
   -- A partition comes with its table.
   AND NOT EXISTS (SELECT FROM pg_class l WHERE l.relnamespace = $2::regnamespace
                      AND l.relname IN (c.relname, (SELECT p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                                                     WHERE i.inhrelid = c.oid AND c.relispartition)))
 ORDER BY c.relkind, c.oid";

/// Asked for with the schema at the side in the search path, so that nothing is named with its schema.
const TRIGGERS: &str = r"
SELECT c.relname::text, t.tgname::text, p.proname::text, pg_get_triggerdef(t.oid, true)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
 WHERE c.relnamespace = $1::regnamespace AND NOT t.tgisinternal
 ORDER BY t.oid";

const HAS_FUNCTION: &str =
    "SELECT EXISTS (SELECT FROM pg_proc WHERE pronamespace = $1::regnamespace AND proname = $2)";

const HAS_TRIGGER: &str = r"
SELECT EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                WHERE c.relnamespace = $1::regnamespace AND c.relname = $2 AND t.tgname = $3)";

/// A table that was moved keeps its triggers only as long as their functions exist, which stand in the schema at the side.
/// So functions that `home` lacks are moved as well, and triggers that are lost are made again.
async fn restore_triggers(
    conn: &mut PgConnection,
    home: &str,
    wanted: &[(String, String, String, String)],
) -> Result<(), sqlx::Error> {
    let run = |statement: String| AssertSqlSafe(statement);
    for (_, _, function, _) in wanted {
        let is_there: bool =
            sqlx::query_scalar(HAS_FUNCTION).bind(home).bind(function).fetch_one(&mut *conn).await?;
        if !is_there {
            conn.execute(run(format!("ALTER FUNCTION {SIDE_SCHEMA}.{function}() SET SCHEMA {home}"))).await?;
        }
    }
    conn.execute(run(format!("DROP SCHEMA {SIDE_SCHEMA} CASCADE"))).await?;
    for (table, trigger, _, create) in wanted {
        let is_there: bool = sqlx::query_scalar(HAS_TRIGGER)
            .bind(home)
            .bind(table)
            .bind(trigger)
            .fetch_one(&mut *conn)
            .await?;
        if !is_there {
            conn.execute(run(create.clone())).await?;
        }
    }
    Ok(())
}

/// Makes the tables and views of the mirror that are not there, by running the migrations in a schema at the side and
/// moving what is missing. The id of the database is no fold of the ledger and is not made here: `migrate` writes a new
/// one and reports it. Answers what was made. To be called inside a transaction.
///
/// # Errors
/// A statement's.
pub async fn restore_tables(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let home: String =
        sqlx::query_scalar("SELECT quote_ident(current_schema())").fetch_one(&mut *conn).await?;
    let run = |statement: String| AssertSqlSafe(statement);
    conn.execute(run(format!("CREATE SCHEMA {SIDE_SCHEMA}; SET LOCAL search_path = {SIDE_SCHEMA}"))).await?;
    for migration in MIGRATOR.iter() {
        conn.execute(migration.sql.clone()).await?;
    }
    let missing: Vec<(String, bool, String, String)> =
        sqlx::query_as(MISSING).bind(SIDE_SCHEMA).bind(&home).fetch_all(&mut *conn).await?;
    let triggers: Vec<(String, String, String, String)> =
        sqlx::query_as(TRIGGERS).bind(SIDE_SCHEMA).fetch_all(&mut *conn).await?;
    for (name, ..) in missing.iter().filter(|(_, is_view, ..)| !is_view) {
        conn.execute(run(format!("ALTER TABLE {SIDE_SCHEMA}.{name} SET SCHEMA {home}"))).await?;
    }
    conn.execute(run(format!("SET LOCAL search_path = {home}"))).await?;
    for (_, _, create, comments) in missing.iter().filter(|(_, is_view, ..)| *is_view) {
        conn.execute(run(create.clone())).await?;
        conn.execute(run(comments.clone())).await?;
    }
    restore_triggers(conn, &home, &triggers).await?;
    Ok(missing.into_iter().map(|(name, ..)| name).collect())
}
