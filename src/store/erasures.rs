//! Who is erased: the table, what this process knows of it, and the check that both are the same when something is entered.
//!
//! A batch that enters a callback has replaced the ids of those whom its process knows to be erased. The statement of the
//! ledger answers with the version of the table, so the check costs no round trip; where it differs, the batch is rolled
//! back and begins anew with what was read meanwhile. An erasure takes the table for itself before it raises the version:
//! it waits for batches that have looked, and those that have not will see it. So none is missed, on any replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::{AssertSqlSafe, PgConnection};

use super::citus::HAS_CITUS;
use super::errors::erasures_changed;
use crate::mirror::{Erasure, Erasures, UserHash};
use crate::model::{Millis, SdkAppId};

/// What this process knows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownErasures {
    read: Arc<RwLock<Arc<Erasures>>>,
    /// Whether the server has Citus, which refuses a sub-select in an insert.
    has_citus: Arc<AtomicBool>,
}

/// The erasures that were applied to what is to be entered.
#[derive(Debug, Clone, Copy)]
pub struct ErasuresApplied<'a> {
    known: &'a KnownErasures,
    applied: &'a Erasures,
}

impl KnownErasures {
    /// As last read.
    #[must_use]
    pub fn current(&self) -> Arc<Erasures> {
        Arc::clone(&self.read.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, read from the database where this process has not done so yet.
    ///
    /// # Errors
    /// The statement's.
    pub async fn for_writing(&self, conn: &mut PgConnection) -> Result<Arc<Erasures>, sqlx::Error> {
        let current = self.current();
        if current.version().is_some() {
            return Ok(current);
        }
        self.read_anew(conn).await
    }

    /// To be handed to the door of the ledger with what they were applied to.
    #[must_use]
    pub fn applied<'a>(&'a self, applied: &'a Erasures) -> ErasuresApplied<'a> {
        ErasuresApplied { known: self, applied }
    }

    async fn read_anew(&self, conn: &mut PgConnection) -> Result<Arc<Erasures>, sqlx::Error> {
        let (read, has_citus) = read(conn).await?;
        let read = Arc::new(read);
        self.has_citus.store(has_citus, Ordering::Relaxed);
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        Ok(read)
    }
}

impl ErasuresApplied<'_> {
    /// The form in which this server takes an insert that answers with [`VERSION`]: with Citus without, and
    /// [`ErasuresApplied::check_entered`] asks for it.
    pub(super) fn insert(self, statement: &'static str) -> AssertSqlSafe<String> {
        let has_citus = self.known.has_citus.load(Ordering::Relaxed);
        AssertSqlSafe(if has_citus { without_version(statement) } else { statement.to_owned() })
    }

    /// Compares with the version that such an insert has found.
    ///
    /// # Errors
    /// As of [`ErasuresApplied::check`].
    pub(super) async fn check_entered(self, conn: &mut PgConnection, found: i64) -> Result<(), sqlx::Error> {
        if self.known.has_citus.load(Ordering::Relaxed) {
            return self.check_now(conn).await;
        }
        self.check(conn, found).await
    }

    /// Compares with the version that a statement of the transaction has found.
    ///
    /// # Errors
    /// A conflict, where it is another; a statement's.
    pub async fn check(self, conn: &mut PgConnection, found: i64) -> Result<(), sqlx::Error> {
        if self.applied.version() == Some(found) {
            return Ok(());
        }
        // Another batch of this process may have read it meanwhile.
        if self.known.current().version() != Some(found) {
            self.known.read_anew(conn).await?;
        }
        Err(erasures_changed())
    }

    /// The same by a statement of its own. No erasure can be registered from here to the end of the transaction.
    ///
    /// # Errors
    /// As above.
    pub async fn check_now(self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let found = sqlx::query_scalar(VERSION).fetch_one(&mut *conn).await?;
        self.check(conn, found).await
    }
}

/// By its key, as every statement of a writing session: the planner takes one that has no index for as dear as the compiler
/// (JIT), which then takes a second.
const VERSION: &str = "SELECT version FROM erasure_state WHERE only_row";

fn without_version(statement: &str) -> String {
    statement.replace(&format!("({VERSION})"), "0::bigint")
}

fn state_statement() -> String {
    format!("SELECT version, key, {HAS_CITUS} FROM erasure_state WHERE only_row")
}

/// There is no app 0.
const ALL: &str = "
SELECT sdk_app_id, user_hash, pseudonym, erased_at_ms, stays_erased FROM erasures WHERE sdk_app_id > 0";

type ErasureRow = (i64, Vec<u8>, String, i64, bool);

/// The table and its version. The first statement keeps the second from seeing a later one.
async fn read(conn: &mut PgConnection) -> Result<(Erasures, bool), sqlx::Error> {
    let state = sqlx::query_as(AssertSqlSafe(state_statement()));
    let (version, key, has_citus): (i64, Vec<u8>, bool) = state.fetch_one(&mut *conn).await?;
    let rows: Vec<ErasureRow> = sqlx::query_as(ALL).fetch_all(conn).await?;
    Ok((Erasures::new(version, key, rows.into_iter().filter_map(erasure).collect()), has_citus))
}

/// None for a row that no program of this version has written.
fn erasure((app, hash, pseudonym, erased_at, stays_erased): ErasureRow) -> Option<Erasure> {
    Some(Erasure {
        app: SdkAppId::parse(&app.to_string()).ok()?,
        user: hash.try_into().ok()?,
        pseudonym,
        erased_at: Millis::new(erased_at),
        stays_erased,
    })
}

const KEY: &str = "SELECT key FROM erasure_state WHERE only_row";

/// The key by which ids are compared.
///
/// # Errors
/// The statement's.
pub async fn key(conn: &mut PgConnection) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar(KEY).fetch_one(conn).await
}

/// Random texts with which a pseudonym may be made: the random part of a UUID's digest, 80 bits.
const CANDIDATES: &str = "
SELECT 'erased-' || left(encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 20) FROM generate_series(1, 2048)";

/// Pseudonyms to choose from.
///
/// # Errors
/// The statement's.
pub async fn candidates(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(CANDIDATES).fetch_all(conn).await
}

const PSEUDONYM: &str = "SELECT pseudonym FROM erasures WHERE sdk_app_id = $1 AND user_hash = $2";

/// What stands in the place of an id that was erased before.
///
/// # Errors
/// The statement's.
pub async fn pseudonym(
    conn: &mut PgConnection,
    app: SdkAppId,
    user: &UserHash,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(PSEUDONYM).bind(app.get()).bind(&user[..]).fetch_optional(conn).await
}

/// Taken before anything else of the transaction: writers hold the weakest lock of the table from their insert to their end.
const TAKE: &str = "LOCK TABLE erasure_state IN ACCESS EXCLUSIVE MODE";

/// To the clock in microseconds, so that no number comes twice: a standby that takes over without the last erasure, or a
/// backup, would count on from a lower one, and a process that knows the lost one would find its number again.
const RAISE: &str = "
UPDATE erasure_state SET version = GREATEST(version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE only_row";

/// The most persons who are erased, in all apps together. Each process holds all of them, and a batch of callbacks that finds
/// another version reads them anew within its own limit of time, a second.
pub const ERASURES_MAX: u32 = 100_000;

/// Nothing is written where it would be one too many.
const REGISTER: &str = "
INSERT INTO erasures AS e (sdk_app_id, user_hash, pseudonym, erased_at_ms, stays_erased)
SELECT $1, $2, $3, $4, $5
 WHERE EXISTS (SELECT FROM erasures WHERE sdk_app_id = $1 AND user_hash = $2)
    OR (SELECT count(*) FROM erasures WHERE sdk_app_id > 0) < $6
ON CONFLICT (sdk_app_id, user_hash) DO UPDATE
   SET erased_at_ms = GREATEST(e.erased_at_ms, EXCLUDED.erased_at_ms),
       stays_erased = e.stays_erased OR EXCLUDED.stays_erased
RETURNING erased_at_ms, stays_erased";

/// What came of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// Up to this time the pseudonym stands in the place of the id, as every batch will read it; none: in what is later as well.
    Until(Option<Millis>),
    /// [`ERASURES_MAX`] others are registered, and nothing was written.
    Full,
}

/// Registers an erasure; one that is there keeps its pseudonym, and the later moment of both counts. In a transaction that
/// the caller keeps short: callbacks wait for its end.
///
/// # Errors
/// A statement's; a limit of time, where a writer does not end.
pub async fn register(conn: &mut PgConnection, erasure: &Erasure) -> Result<Registered, sqlx::Error> {
    sqlx::query(TAKE).execute(&mut *conn).await?;
    let query = sqlx::query_as(REGISTER).bind(erasure.app.get()).bind(&erasure.user[..]);
    let query = query.bind(&erasure.pseudonym).bind(erasure.erased_at.get()).bind(erasure.stays_erased);
    let written: Option<(i64, bool)> = query.bind(i64::from(ERASURES_MAX)).fetch_optional(&mut *conn).await?;
    let Some((erased_at, stays_erased)) = written else { return Ok(Registered::Full) };
    sqlx::query(RAISE).execute(conn).await?;
    Ok(Registered::Until((!stays_erased).then_some(Millis::new(erased_at))))
}
