//! What a person checks of a server and of what is in it: version, whether it takes writes, its clock, its limits of
//! connections, and which commands the ledger has seen when.
//!
//! Reads only, on the connection it is given, and each read is bounded: the check runs beside a busy service. The ledger
//! has no index by command, so its newest entries are read and no more.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use crate::model::{Millis, SdkAppId};

/// How many of the newest entries of the ledger are looked at.
pub const ENTRIES_LOOKED_AT_MAX: i64 = 50_000;

/// How many of them the times are compared of.
const TIMES_COMPARED_MAX: i64 = 1_000;

/// The server, the session and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCondition {
    /// Such as `15.8 (Debian 15.8-0+deb12u1)`.
    pub version: String,
    /// Of the database.
    pub encoding: String,
    /// Its name.
    pub database: String,
    /// Whom the session acts as.
    pub role: String,
    /// Follows another server.
    pub is_standby: bool,
    /// Takes no writes, whatever the reason.
    pub is_read_only: bool,
    /// Connections that a role like this one may use of the server, of the database, and by itself.
    pub connections_max: i32,
    /// Connections that the server has now, of all roles and databases.
    pub connections_used: i64,
}

const CONDITION: &str = "
SELECT current_setting('server_version'), current_setting('server_encoding'), current_database()::text,
       current_user::text, pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
       least(current_setting('max_connections')::int
               - CASE WHEN r.rolsuper THEN 0
                      ELSE current_setting('superuser_reserved_connections')::int
                         + COALESCE(current_setting('reserved_connections', true), '0')::int END,
             NULLIF(d.datconnlimit, -1), NULLIF(r.rolconnlimit, -1)),
       (SELECT sum(numbackends)::bigint FROM pg_stat_database)
  FROM pg_roles r, pg_database d
 WHERE r.rolname = current_user AND d.datname = current_database()";

fn condition_of(row: &PgRow) -> Result<ServerCondition, sqlx::Error> {
    Ok(ServerCondition {
        version: row.try_get(0)?,
        encoding: row.try_get(1)?,
        database: row.try_get(2)?,
        role: row.try_get(3)?,
        is_standby: row.try_get(4)?,
        is_read_only: row.try_get(5)?,
        connections_max: row.try_get(6)?,
        connections_used: row.try_get(7)?,
    })
}

/// What the server says of itself.
///
/// # Errors
/// The statement's.
pub async fn condition(conn: &mut PgConnection) -> Result<ServerCondition, sqlx::Error> {
    condition_of(&sqlx::query(CONDITION).fetch_one(conn).await?)
}

/// The clock of the server.
///
/// # Errors
/// The statement's.
pub async fn clock(conn: &mut PgConnection) -> Result<Millis, sqlx::Error> {
    let millis: i64 =
        sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(conn)
            .await?;
    Ok(Millis::new(millis))
}

/// How commits of this role get to other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// Servers that follow this one now.
    pub standbys: i64,
    /// `synchronous_standby_names`.
    pub synchronous_names: String,
    /// `synchronous_commit`, as the sessions of the service have it.
    pub commit: String,
}

impl Replication {
    /// Why a commit that was confirmed may be missing on the standby that takes over; none where it is not, or where
    /// no server follows.
    #[must_use]
    pub fn asynchronous(&self) -> Option<String> {
        let follow = match self.standbys {
            ..=0 => return None,
            1 => "1 server follows".to_owned(),
            standbys => format!("{standbys} servers follow"),
        };
        match &*self.commit {
            _ if self.synchronous_names.is_empty() => {
                Some(format!("{follow}, and synchronous_standby_names is empty"))
            }
            "local" => Some(format!("{follow}, and synchronous_commit is local")),
            _ => None,
        }
    }
}

/// What takes a copy for a backup follows no longer than that takes. The service raises `off` to `on` for its sessions.
const REPLICATION: &str = "
SELECT (SELECT count(*) FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'),
       current_setting('synchronous_standby_names'), replace(current_setting('synchronous_commit'), 'off', 'on')";

/// Whether this server waits for others before it confirms a commit.
///
/// # Errors
/// The statement's.
pub async fn replication(conn: &mut PgConnection) -> Result<Replication, sqlx::Error> {
    let (standbys, synchronous_names, commit) = sqlx::query_as(REPLICATION).fetch_one(conn).await?;
    Ok(Replication { standbys, synchronous_names, commit })
}

/// A copy by dump has the id of its database too, so the cluster counts as well, whose number a standby has in common with
/// its primary, and the database in it.
const COPY_ID: &str = "
SELECT concat((SELECT database_id FROM database_identity), ' in cluster ', s.system_identifier, ', database ', d.oid)
  FROM pg_control_system() s, pg_database d
 WHERE d.datname = current_database()";

/// What a primary and its standbys have in common, and no other database; for a database with our schema.
///
/// # Errors
/// The statement's.
pub async fn copy_id(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(COPY_ID).fetch_one(conn).await
}

/// How many groups the mirror has of an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupTotals {
    /// With a known create or profile, and not destroyed.
    pub active: i64,
    /// Communities among them.
    pub communities: i64,
    /// Known by their members, attributes or topics alone.
    pub unseen: i64,
}

const TOTALS: &str = "
SELECT count(*) FILTER (WHERE status = 'active'), count(*) FILTER (WHERE status = 'active' AND type = 'Community'),
       count(*) FILTER (WHERE status = 'unseen')
  FROM group_states WHERE sdk_app_id = $1";

/// Counts the groups of an app. Reads all of them.
///
/// # Errors
/// The statement's.
pub async fn group_totals(conn: &mut PgConnection, app: SdkAppId) -> Result<GroupTotals, sqlx::Error> {
    let (active, communities, unseen) = sqlx::query_as(TOTALS).bind(app.get()).fetch_one(conn).await?;
    Ok(GroupTotals { active, communities, unseen })
}

/// One command of an app among the newest entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCommand {
    /// As it stands in the ledger.
    pub command: String,
    /// Receipt of the newest.
    pub last_at: DateTime<Utc>,
    /// How many.
    pub count: i64,
}

/// What the newest entries of the ledger show of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenCommands {
    /// The commands that were seen.
    pub commands: Vec<SeenCommand>,
    /// How many entries were looked at, of all apps.
    pub looked_at: i64,
    /// Receipt of the oldest of them.
    pub since: Option<DateTime<Utc>>,
}

impl SeenCommands {
    /// True where the whole ledger was looked at, so that a command which was not seen never came.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.looked_at < ENTRIES_LOOKED_AT_MAX
    }
}

const SEEN: &str = "
WITH newest AS MATERIALIZED
     (SELECT sdk_app_id, source, command, received_at FROM ledger ORDER BY position DESC LIMIT $2)
SELECT NULL AS command, min(received_at), count(*) FROM newest
 UNION ALL
SELECT command, max(received_at), count(*) FROM newest WHERE sdk_app_id = $1 AND source = 'callback' GROUP BY command";

/// Which commands came when.
///
/// # Errors
/// The statement's.
pub async fn seen_commands(conn: &mut PgConnection, app: SdkAppId) -> Result<SeenCommands, sqlx::Error> {
    let rows: Vec<(Option<String>, Option<DateTime<Utc>>, i64)> =
        sqlx::query_as(SEEN).bind(app.get()).bind(ENTRIES_LOOKED_AT_MAX).fetch_all(conn).await?;
    let mut seen = SeenCommands::default();
    for (command, at, count) in rows {
        match (command, at) {
            (Some(command), Some(last_at)) => seen.commands.push(SeenCommand { command, last_at, count }),
            (_, since) => (seen.looked_at, seen.since) = (count, since),
        }
    }
    assert!(seen.looked_at <= ENTRIES_LOOKED_AT_MAX, "the read keeps its limit");
    Ok(seen)
}

const DELAYS: &str = "
SELECT count(*), min(extract(epoch FROM received_at) * 1000 - event_time_ms)::bigint,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY (extract(epoch FROM received_at) * 1000 - event_time_ms)::bigint)
  FROM (SELECT sdk_app_id, source, event_time_ms, time_ms, received_at FROM ledger ORDER BY position DESC LIMIT $2) l
 WHERE sdk_app_id = $1 AND source = 'callback' AND event_time_ms = time_ms
   AND received_at > now() - interval '1 day'";

/// How long after their event times the newest callbacks were received: a clock that is off shows here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptDelays {
    /// How many callbacks were compared.
    pub callbacks: i64,
    /// The shortest, in milliseconds; negative: received before the event.
    pub least_ms: i64,
    /// Half of them took no longer.
    pub median_ms: i64,
}

/// Compares the callbacks of the last day; none where there was none with an event time.
///
/// # Errors
/// The statement's.
pub async fn receipt_delays(
    conn: &mut PgConnection,
    app: SdkAppId,
) -> Result<Option<ReceiptDelays>, sqlx::Error> {
    let (callbacks, least, median): (i64, Option<i64>, Option<i64>) =
        sqlx::query_as(DELAYS).bind(app.get()).bind(TIMES_COMPARED_MAX).fetch_one(conn).await?;
    let delays = least.zip(median);
    Ok(delays.map(|(least_ms, median_ms)| ReceiptDelays { callbacks, least_ms, median_ms }))
}

/// A callback that was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnteredCallback {
    /// What came.
    pub command: String,
    /// `applied`, `partial`, `parked`.
    pub outcome: String,
    /// When.
    pub received_at: DateTime<Utc>,
    /// `EventTime`, where it has one.
    pub event_time_ms: Option<i64>,
}

const LAST_POSITION: &str = "SELECT COALESCE(max(position), 0) FROM ledger";

/// The newest position that is visible.
///
/// # Errors
/// The statement's.
pub async fn last_position(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(LAST_POSITION).fetch_one(conn).await
}

const ENTERED: &str = "
SELECT command, outcome, received_at, event_time_ms FROM ledger
 WHERE position > $1 AND sdk_app_id = ANY ($2) AND source = 'callback' ORDER BY position LIMIT 1";

/// The first callback of these apps behind a position.
///
/// # Errors
/// The statement's.
pub async fn entered_after(
    conn: &mut PgConnection,
    position: i64,
    apps: &[SdkAppId],
) -> Result<Option<EnteredCallback>, sqlx::Error> {
    let apps: Vec<i64> = apps.iter().map(|app| app.get()).collect();
    let found: Option<(String, String, DateTime<Utc>, Option<i64>)> =
        sqlx::query_as(ENTERED).bind(position).bind(apps).fetch_optional(conn).await?;
    Ok(found.map(|(command, outcome, received_at, event_time_ms)| EnteredCallback {
        command,
        outcome,
        received_at,
        event_time_ms,
    }))
}
