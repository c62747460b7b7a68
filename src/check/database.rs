//! The database: whether it is reached and takes writes, rights, schema, whose it is, its clock, its connections.
//!
//! It connects as the service does, so that it finds what the service finds (a version, an encoding, a pooler in
//! transaction mode), and then compares. Nothing is written.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::timeout;

use super::line::{CheckLine, CheckSubject, secs_shown};
use crate::model::Millis;
use crate::store::errors::Mismatch;
use crate::store::{Database, SERVICE_CONNECTIONS_MAX, StoreError, condition, rights, schema};

/// How far the clock of the database may stand from this host's without a word, in milliseconds.
const CLOCK_MAX_MS: i64 = 2_000;

/// How long all of it may take, connecting included. The server's own time limits are not relied on: it may stall.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often the clock is asked for; the quickest answer counts.
const CLOCK_LOOKS: usize = 3;

/// Which database a data directory knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KnownId {
    /// None yet.
    #[default]
    None,
    /// The one with this id.
    Of(String),
    /// The directory cannot be read by this user.
    Unreadable,
}

/// What is compared with the database.
#[derive(Debug, Clone, Default)]
pub struct DatabaseExpected {
    /// What the data directory knows.
    pub known_id: KnownId,
    /// Whether it is the embedded server, which `serve` migrates and which has no one else's connections.
    pub is_embedded: bool,
}

/// Looks at all of it. The second value is false where nothing can be read of our tables.
pub async fn lines(
    database: &Database,
    expected: &DatabaseExpected,
    now: fn() -> Millis,
) -> (Vec<CheckLine>, bool) {
    let mut lines = Vec::new();
    let looking = timeout(LOOK_WAIT_MAX, connect_and_look(database, expected, now, &mut lines)).await;
    let is_ours = looking.unwrap_or_else(|_| {
        let found = format!("the server did not answer in {} s", LOOK_WAIT_MAX.as_secs());
        Err(CheckLine::wrong(CheckSubject::Database, found, "look at the log and the load of the server"))
    });
    match is_ours {
        Ok(is_ours) => (lines, is_ours),
        Err(line) => {
            lines.push(line);
            (lines, false)
        }
    }
}

async fn connect_and_look(
    database: &Database,
    expected: &DatabaseExpected,
    now: fn() -> Millis,
    lines: &mut Vec<CheckLine>,
) -> Result<bool, CheckLine> {
    let mut conn = database.connect().await.map_err(|error| unreached(&error))?;
    let is_ours = look(&mut conn, expected, now, lines).await.map_err(|error| {
        CheckLine::wrong_by(CheckSubject::Database, &error.to_string(), "look at the log of the server")
    });
    let _ = sqlx::Connection::close(conn).await;
    is_ours
}

/// A database that is not reached, or not one that can be used.
fn unreached(error: &StoreError) -> CheckLine {
    let remedy = if error.is_passing() {
        "start the server, or look at host, port and firewall of DATABASE_URL; `serve` spools until it answers"
    } else {
        "look at role, password and database name of DATABASE_URL, and at pg_hba.conf of the server"
    };
    let remedy = match error {
        StoreError::Version(_) => "upgrade the server to PostgreSQL 15 or later",
        _ => remedy,
    };
    // "15 or later is needed" is no remedy by itself.
    match error {
        StoreError::Version(_) => CheckLine::wrong(CheckSubject::Database, error.to_string(), remedy),
        _ => CheckLine::wrong_by(CheckSubject::Database, &error.to_string(), remedy),
    }
}

async fn look(
    conn: &mut PgConnection,
    expected: &DatabaseExpected,
    now: fn() -> Millis,
    lines: &mut Vec<CheckLine>,
) -> Result<bool, StoreError> {
    let server = condition::condition(conn).await?;
    lines.push(taking_writes(&server));
    lines.push(database_clock(conn, now).await?);
    lines.push(connections(&server, expected));
    lines.push(replication_line(&condition::replication(conn).await?));
    let missing = rights::missing(conn).await?;
    if missing.is_empty() {
        let found = format!("role {:?} has every right on what exists of our tables", server.role);
        lines.push(CheckLine::ok(CheckSubject::Rights, found));
    }
    for grant in &missing {
        let found = format!("role {:?} lacks a right", server.role);
        lines.push(CheckLine::wrong(
            CheckSubject::Rights,
            found,
            format!("as the owner of the tables: {grant}"),
        ));
    }
    if rights::hide_schema(&missing) {
        return Ok(false);
    }
    let mismatch = schema::check(conn).await?;
    let fits = mismatch.is_none();
    lines.push(schema_line(mismatch, expected));
    if fits {
        lines.push(id_line(schema::database_id(conn).await?, expected));
    }
    Ok(fits)
}

fn taking_writes(server: &condition::ServerCondition) -> CheckLine {
    let found = format!(
        "PostgreSQL {}, database {:?} in {}, role {:?}",
        server.version, server.database, server.encoding, server.role
    );
    if server.is_standby {
        let remedy = "name the primary in DATABASE_URL, or both hosts, separated by a comma: the one that takes writes is used";
        return CheckLine::wrong(CheckSubject::Database, format!("{found}: a standby"), remedy);
    }
    if server.is_read_only {
        let remedy = "switch default_transaction_read_only off for role and database; some providers switch it on when the \
                      disk is full";
        return CheckLine::wrong(CheckSubject::Database, format!("{found}: read-only"), remedy);
    }
    CheckLine::ok(CheckSubject::Database, found)
}

fn schema_line(mismatch: Option<Mismatch>, expected: &DatabaseExpected) -> CheckLine {
    match mismatch {
        None => CheckLine::ok(
            CheckSubject::Schema,
            format!("all {} migrations of this program", schema::MIGRATOR.iter().count()),
        ),
        Some(behind @ Mismatch::Behind(..)) if expected.is_embedded => CheckLine::warning(
            CheckSubject::Schema,
            behind.to_string().split("; ").next().unwrap_or_default(),
            "start `serve`: it migrates the embedded database by itself",
        ),
        Some(mismatch) => {
            CheckLine::wrong_by(CheckSubject::Schema, &mismatch.to_string(), "run `group-mirror migrate`")
        }
    }
}

fn id_line(id: Option<String>, expected: &DatabaseExpected) -> CheckLine {
    let Some(id) = id else {
        return CheckLine::wrong_by(
            CheckSubject::DatabaseId,
            &Mismatch::NoId.to_string(),
            "run `group-mirror migrate`",
        );
    };
    match &expected.known_id {
        KnownId::None => {
            CheckLine::ok(CheckSubject::DatabaseId, format!("{id}; the data directory knows none yet"))
        }
        KnownId::Unreadable => CheckLine::ok(
            CheckSubject::DatabaseId,
            format!("{id}; what the data directory knows was not read"),
        ),
        KnownId::Of(known) if *known == id => {
            CheckLine::ok(CheckSubject::DatabaseId, format!("{id}, the one that the data directory knows"))
        }
        KnownId::Of(known) => CheckLine::wrong(
            CheckSubject::DatabaseId,
            format!("{id}, and the data directory belongs to the database with id {known:?}"),
            "set DATABASE_URL or DATA_DIR right; where this database is the right one, start once with `serve \
             --adopt-database`",
        ),
    }
}

/// The quickest of some looks: the true time lies between sending and receipt.
async fn database_clock(conn: &mut PgConnection, now: fn() -> Millis) -> Result<CheckLine, sqlx::Error> {
    let mut best: Option<(i64, i64)> = None;
    for _ in 0..CLOCK_LOOKS {
        let before = now().get();
        let clock = condition::clock(conn).await?.get();
        let after = now().get();
        let took = (after - before).max(0);
        if best.is_none_or(|(shortest, _)| took < shortest) {
            best = Some((took, clock - (before + took / 2)));
        }
    }
    let (took, distance) = best.unwrap_or_default();
    Ok(clock_line(distance, took))
}

fn clock_line(distance_ms: i64, took_ms: i64) -> CheckLine {
    let side = if distance_ms < 0 { "behind" } else { "ahead of" };
    let found = format!(
        "the clock of the database stands {} {side} this host's (known to {} ms)",
        secs_shown(distance_ms),
        took_ms / 2 + 1
    );
    if distance_ms.abs() - took_ms <= CLOCK_MAX_MS {
        return CheckLine::ok(CheckSubject::DatabaseClock, found);
    }
    let remedy = "synchronise both hosts (NTP); a line about tencent_clock, where there is one, says which of them is wrong";
    CheckLine::warning(CheckSubject::DatabaseClock, found, remedy)
}

fn connections(server: &condition::ServerCondition, expected: &DatabaseExpected) -> CheckLine {
    let (max, used) = (i64::from(server.connections_max), server.connections_used);
    let needed = i64::try_from(SERVICE_CONNECTIONS_MAX).unwrap_or(i64::MAX);
    let found = format!(
        "{max} allowed for this role and database, {used} of the server in use; one service takes up to {needed}"
    );
    if max < needed {
        let remedy = "raise max_connections, or the connection limit of role or database, to the number of services times what one takes";
        return CheckLine::warning(CheckSubject::Connections, found, remedy);
    }
    if !expected.is_embedded && max - used < needed / 4 {
        let remedy =
            "close what is not needed, or raise max_connections: a service that gets no connection spools";
        return CheckLine::warning(CheckSubject::Connections, found, remedy);
    }
    CheckLine::ok(CheckSubject::Connections, found)
}

fn replication_line(replication: &condition::Replication) -> CheckLine {
    let subject = CheckSubject::Replication;
    if let Some(cause) = replication.asynchronous() {
        let found = format!("asynchronous: {cause}; a failover may lose the last commits");
        let remedy = "make a standby synchronous, or set KEEP_ANSWERED_SECS: then what was answered lately is sent again";
        return CheckLine::warning(subject, found, remedy);
    }
    CheckLine::ok(
        subject,
        match replication.standbys {
            ..=0 => "no server follows this one now".to_owned(),
            standbys => format!("synchronous ({}), {standbys} connected", replication.synchronous_names),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{
        DatabaseExpected, KnownId, clock_line, connections, id_line, replication_line, taking_writes,
    };
    use crate::check::line::CheckLevel;
    use crate::store::condition::{Replication, ServerCondition};

    #[test]
    fn commits_that_no_standby_has_confirmed_are_a_warning_where_one_follows() {
        for (standbys, names, commit, level) in [
            (0, "", "on", CheckLevel::Ok),
            (2, "", "on", CheckLevel::Warning),
            (1, "*", "on", CheckLevel::Ok),
            (1, "*", "remote_apply", CheckLevel::Ok),
            (1, "*", "local", CheckLevel::Warning),
        ] {
            let (synchronous_names, commit) = (names.to_owned(), commit.to_owned());
            let line = replication_line(&Replication { standbys, synchronous_names, commit });
            assert_eq!(line.level, level, "{line}");
        }
    }

    fn server() -> ServerCondition {
        ServerCondition {
            version: "15.8".to_owned(),
            encoding: "UTF8".to_owned(),
            database: "mirror".to_owned(),
            role: "mirror".to_owned(),
            is_standby: false,
            is_read_only: false,
            connections_max: 97,
            connections_used: 5,
        }
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_the_round_trip_and_two_seconds_is_a_warning() {
        for (distance, took, level) in [
            (0, 1, CheckLevel::Ok),
            (-2_000, 0, CheckLevel::Ok),
            (2_500, 900, CheckLevel::Ok),
            (-2_500, 10, CheckLevel::Warning),
            (3_600_000, 900, CheckLevel::Warning),
        ] {
            assert_eq!(clock_line(distance, took).level, level, "{distance} {took}");
        }
        assert!(clock_line(-90_000, 0).found.contains("90.0 s behind this host's"));
    }

    #[test]
    fn a_standby_and_a_read_only_server_are_wrong() {
        assert_eq!(taking_writes(&server()).level, CheckLevel::Ok);
        let standby = taking_writes(&ServerCondition { is_standby: true, is_read_only: true, ..server() });
        assert!(standby.found.ends_with("a standby") && standby.level == CheckLevel::Wrong);
        let read_only = taking_writes(&ServerCondition { is_read_only: true, ..server() });
        assert!(read_only.found.ends_with("read-only") && read_only.level == CheckLevel::Wrong);
    }

    #[test]
    fn connections_have_to_be_enough_for_one_service() {
        let of = |connections_max, connections_used| {
            let server = ServerCondition { connections_max, connections_used, ..server() };
            connections(&server, &DatabaseExpected::default()).level
        };
        assert_eq!(
            [of(97, 5), of(20, 1), of(97, 95)],
            [CheckLevel::Ok, CheckLevel::Warning, CheckLevel::Warning]
        );
    }

    #[test]
    fn a_database_of_another_data_directory_is_wrong_and_so_is_one_without_an_id() {
        let expected = |known: Option<&str>| DatabaseExpected {
            known_id: known.map_or(KnownId::None, |known| KnownId::Of(known.to_owned())),
            is_embedded: false,
        };
        let of = |id: Option<&str>, known| id_line(id.map(str::to_owned), &expected(known));
        assert_eq!(of(Some("a"), None).level, CheckLevel::Ok);
        assert_eq!(of(Some("a"), Some("a")).level, CheckLevel::Ok);
        assert!(of(Some("a"), Some("b")).remedy.unwrap().contains("--adopt-database"));
        assert_eq!(of(None, Some("b")).level, CheckLevel::Wrong);
    }
}
