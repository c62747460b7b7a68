//! Cards of the health page that ask the database: server and connections, clocks, event times, the passes over Tencent's REST
//! API.
//!
//! One connection and a few bounded reads, within the time of one page. Where the database does not answer each card says
//! that nothing is known, and the page stands.

use std::time::Duration;

use chrono::DateTime;

use super::health_card::{CardLevel, HealthCard};
use super::language::grouped;
use super::state::ConsoleState;
use super::trust::{DatabaseHealth, Trust};
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::clock;
use crate::store::condition::{self, ReceiptDelays, ServerCondition};
use crate::store::in_time;
use crate::store::passes::{self, PassReport};

/// How long all of it may take: a page of health must come while the database is slow.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Clocks that differ by more need a person.
const CLOCKS_APART_MAX_MS: i64 = 2_000;

/// A callback that was received before its event by more than this shows a clock that is behind.
const BEFORE_EVENT_MAX_MS: i64 = 3_000;

/// Where even the quickest callback took longer, a clock is wrong or something holds callbacks up.
const QUICKEST_MAX_MS: i64 = 30_000;

/// What was read.
struct DatabaseFindings {
    server: ServerCondition,
    /// The clock of the database minus that of this host, and the time that asking took.
    clock_ms: (i64, i64),
    delays: Option<ReceiptDelays>,
    pass: Option<PassReport>,
}

/// The cards.
pub(super) async fn database_cards(state: &ConsoleState, visit: &Visit, trust: &Trust) -> Vec<HealthCard> {
    let found = match trust.database {
        DatabaseHealth::Committing => in_time(WAIT_MAX, read(state, visit)).await.ok(),
        DatabaseHealth::Away | DatabaseHealth::Unfit(_) => None,
    };
    let Some(found) = found else {
        let unknown =
            |subject| HealthCard::good(subject, visit.text("card-not-asked")).at(CardLevel::Unknown);
        let unknown = ["server", "clock", "delays", "passes"].map(unknown);
        return unknown.into_iter().chain(reads(state, visit)).collect();
    };
    let cards = [
        server(visit, &found.server),
        clocks(visit, found.clock_ms),
        delays(visit, found.delays),
        pass(visit, found.pass.as_ref()),
    ];
    cards.into_iter().chain(reads(state, visit)).collect()
}

/// Where lists and lookups are read; no card without a standby.
fn reads(state: &ConsoleState, visit: &Visit) -> Option<HealthCard> {
    let standby = state.api.database.standby()?;
    Some(match standby.trouble() {
        None => HealthCard::good("reads", visit.text("card-reads-standby")),
        Some(cause) => {
            HealthCard::good("reads", visit.text("card-reads-primary")).and(cause).at(CardLevel::Warning)
        }
    })
}

async fn read(state: &ConsoleState, visit: &Visit) -> Result<DatabaseFindings, ApiError> {
    // Of the database that callbacks are committed to, whatever serves the reads.
    let mut conn = state.api.feed_connection().await?;
    let server = condition::condition(&mut conn).await?;
    let before = clock::now().get();
    let there = condition::clock(&mut conn).await?.get();
    let after = clock::now().get();
    let took = (after - before).max(0);
    let delays = condition::receipt_delays(&mut conn, visit.app).await?;
    let pass = passes::report(&mut conn, visit.app).await?;
    Ok(DatabaseFindings { server, clock_ms: (there - before - took / 2, took), delays, pass })
}

fn server(visit: &Visit, server: &ServerCondition) -> HealthCard {
    let connections = visit.language().text_with(
        "card-server-connections",
        [("used", grouped(server.connections_used).into()), ("most", grouped(server.connections_max).into())],
    );
    let card = HealthCard::good("server", format!("PostgreSQL {}", server.version)).and(connections);
    if server.is_standby {
        return card.and(visit.text("card-server-standby")).at(CardLevel::Warning);
    }
    if i64::from(server.connections_max) - server.connections_used < 1 {
        return card.at(CardLevel::Warning);
    }
    card
}

fn clocks(visit: &Visit, (apart_ms, took_ms): (i64, i64)) -> HealthCard {
    let shown = visit.language().text_with("card-clock-apart", [("ms", grouped(apart_ms.abs()).into())]);
    let card = HealthCard::good("clock", shown);
    let is_off = apart_ms.abs() > CLOCKS_APART_MAX_MS.saturating_add(took_ms);
    if is_off { card.at(CardLevel::Warning) } else { card }
}

fn delays(visit: &Visit, delays: Option<ReceiptDelays>) -> HealthCard {
    let Some(delays) = delays else {
        return HealthCard::good("delays", visit.text("card-delays-none")).at(CardLevel::Unknown);
    };
    let shown = visit.language().text_with(
        "card-delays-found",
        [
            ("count", grouped(delays.callbacks).into()),
            ("least", grouped(delays.least_ms).into()),
            ("median", grouped(delays.median_ms).into()),
        ],
    );
    let card = HealthCard::good("delays", shown);
    let is_off = delays.least_ms < -BEFORE_EVENT_MAX_MS || delays.least_ms > QUICKEST_MAX_MS;
    if is_off { card.at(CardLevel::Warning) } else { card }
}

fn pass(visit: &Visit, pass: Option<&PassReport>) -> HealthCard {
    let Some(pass) = pass else {
        return HealthCard::good("passes", visit.text("card-passes-none")).at(CardLevel::Unknown);
    };
    let time = |ms: Option<i64>| ms.and_then(DateTime::from_timestamp_millis);
    let shown = visit.language().text_with(
        "card-passes-found",
        [
            ("number", grouped(pass.number).into()),
            ("kind", pass.kind.as_str().into()),
            ("phase", pass.phase.as_str().into()),
            ("asked", grouped(pass.asked).into()),
        ],
    );
    let card = HealthCard::good("passes", shown);
    match &pass.stopped {
        Some(why) => card.and(why.as_str()).since(time(pass.stopped_ms)).at(CardLevel::Warning),
        None => card.since(time(pass.ended_ms).or_else(|| time(Some(pass.begun_ms)))),
    }
}
