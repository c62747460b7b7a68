//! `GET /v1/stats`: how much is in the mirror, and whether callbacks arrive.
//!
//! Counts come from `stats_cache` and may be some time old, because counting a large mirror takes seconds. Spool, own gaps,
//! refusals and the newest callback are known to the process itself. So the answer is 200 while the database is away, when
//! it is needed most: with the last counts and their time, and null for what is not known.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::auth::Caller;
use super::errors::ApiError;
use super::openapi::Refused;
use super::parameters::AppOnly;
use super::query::Query;
use super::state::ApiState;
use super::stats_verification::{GapView, VerificationView, gaps as gaps_of};
use super::timestamp::Timestamp;
use crate::clock;
use crate::model::{Millis, SdkAppId};
use crate::outbox::Backlog;
use crate::refusals::RefusalTotal;
use crate::spool::{SpoolError, SpoolStatus};
use crate::store::stats::{self, AppCounts};

/// What a group of an unknown type is counted under in `by_type`.
const UNKNOWN: &str = "unknown";

/// How long the answer waits for the newest callback of the ledger; then it has the newest that the process knows of. A
/// server that stalls must not hold up what is known without it.
const LATEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// Counts of one app, and what the process that answers knows of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct StatsView {
    sdk_app_id: i64,
    /// False while the database does not answer, or does not fit this program; the counts are the last ones then.
    database_available: bool,
    /// Null where nothing could be counted since the start of the process; the same with `members` and `ledger`.
    groups: Option<GroupCounts>,
    /// Present memberships that are known: those of audio-video rooms only where they are mirrored.
    members: Option<i64>,
    ledger: Option<LedgerCounts>,
    spool: SpoolView,
    /// How fresh the groups are, as counted; null where nothing could be counted since the start of the process.
    verification: Option<VerificationView>,
    /// The newest periods, at most 100, in which callbacks of the app were not made durable, newest first: those of all
    /// processes on this database as counted, and those of the process that answers as they are now.
    #[schema(max_items = 100)]
    gaps: Vec<GapView>,
    refusals: RefusalsView,
    /// Callbacks of the app that wait for the backend behind the mirror; null where the app has none.
    relay: Option<RelayView>,
    /// When the last callback was received, as far as is known; null where none is in the ledger, or none is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_callback_at: Option<Timestamp>,
    /// When groups, members and ledger were counted. The counts are kept for twenty times as long as that took.
    #[schema(value_type = Option<String>, format = DateTime)]
    counted_at: Option<Timestamp>,
}

/// Groups of every status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct GroupCounts {
    total: i64,
    by_status: BTreeMap<String, i64>,
    /// `unknown` for groups whose type no callback has named.
    by_type: BTreeMap<String, i64>,
    by_type_and_status: Vec<KindCount>,
}

/// Groups of one type and status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct KindCount {
    #[serde(rename = "type")]
    group_type: Option<String>,
    status: String,
    count: i64,
}

/// Rows of the ledger by outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct LedgerCounts {
    applied: i64,
    /// Applied but for parts that could not be read.
    partial: i64,
    parked: i64,
    /// The partial entries by cause; one with two causes counts under both.
    partial_by_cause: BTreeMap<String, i64>,
    /// The parked entries by cause.
    parked_by_cause: BTreeMap<String, i64>,
}

impl From<&AppCounts> for LedgerCounts {
    fn from(counts: &AppCounts) -> Self {
        Self {
            applied: counts.applied,
            partial: counts.partial,
            parked: counts.parked,
            partial_by_cause: counts.partial_by_cause.clone(),
            parked_by_cause: counts.parked_by_cause.clone(),
        }
    }
}

/// What the app has in the spool of the process that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct SpoolView {
    /// Callbacks in it; null while it is being opened, as with `bytes`.
    depth: Option<u64>,
    /// What they are charged with.
    bytes: Option<u64>,
    /// Receipt of the oldest, or of one before it that is in the tables by now; null where there is none, or none is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_at: Option<Timestamp>,
}

/// Requests that the public listener of the process that answers did not take, since its start: those that named the app,
/// and those that named none of the apps that are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RefusalsView {
    total: u64,
    /// Every cause, those that never happened with 0.
    by_cause: BTreeMap<&'static str, u64>,
    /// The newest one; null where there was none.
    last: Option<LastRefusal>,
}

/// What waits for the backend behind the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RelayView {
    /// Callbacks that the backend has not taken yet: those in the database, of all processes, as counted a moment ago, and
    /// those in the spool of the process that answers.
    rows: u64,
    /// Age of the oldest in whole seconds, since its receipt; 0 where none waits.
    age: u64,
    /// Receipt of the oldest.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_at: Option<Timestamp>,
    /// For how many seconds the backend has taken nothing from the process that answers; null while it does.
    outage: Option<u64>,
}

impl From<Backlog> for RelayView {
    fn from(backlog: Backlog) -> Self {
        let age_ms = backlog.oldest.map_or(0, |oldest| clock::now().get() - oldest.get());
        Self {
            rows: backlog.entries,
            age: u64::try_from(age_ms / 1000).unwrap_or_default(),
            oldest_at: backlog.oldest.and_then(time).map(Timestamp),
            outage: backlog.outage.map(|outage| outage.as_secs()),
        }
    }
}

/// The newest request that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct LastRefusal {
    cause: &'static str,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl From<Vec<RefusalTotal>> for RefusalsView {
    fn from(totals: Vec<RefusalTotal>) -> Self {
        let newest =
            totals.iter().filter_map(|total| Some((total.last_at?, total.cause))).max_by_key(|(at, _)| *at);
        let last = newest.and_then(|(at, cause)| {
            let at = DateTime::from_timestamp_millis(at.get())?;
            Some(LastRefusal { cause: cause.label(), at: Timestamp(at) })
        });
        let by_cause: BTreeMap<_, _> =
            totals.iter().map(|total| (total.cause.label(), total.count)).collect();
        assert_eq!(by_cause.len(), totals.len(), "each cause has a label of its own");
        Self { total: by_cause.values().sum(), by_cause, last }
    }
}

impl From<&AppCounts> for GroupCounts {
    fn from(counts: &AppCounts) -> Self {
        let mut by_status: BTreeMap<String, i64> =
            ["active", "destroyed", "unseen"].map(|status| (status.to_owned(), 0)).into();
        let mut by_type: BTreeMap<String, i64> = BTreeMap::new();
        for (group_type, status, count) in &counts.groups {
            *by_status.entry(status.clone()).or_default() += count;
            *by_type.entry(group_type.as_deref().unwrap_or(UNKNOWN).to_owned()).or_default() += count;
        }
        let kind = |(group_type, status, count): &(Option<String>, String, i64)| KindCount {
            group_type: group_type.clone(),
            status: status.clone(),
            count: *count,
        };
        Self {
            total: by_status.values().sum(),
            by_status,
            by_type,
            by_type_and_status: counts.groups.iter().map(kind).collect(),
        }
    }
}

impl SpoolView {
    fn of(status: &SpoolStatus, app: SdkAppId) -> Self {
        let is_known = status.failure != Some(SpoolError::Opening);
        let of_app = status.apps.get(&app).copied().unwrap_or_default();
        Self {
            depth: Some(of_app.depth).filter(|_| is_known),
            bytes: Some(of_app.bytes).filter(|_| is_known),
            oldest_at: of_app.oldest.and_then(time).map(Timestamp),
        }
    }
}

fn time(millis: Millis) -> Option<DateTime<Utc>> {
    Timestamp::of_millis(millis.get()).map(|time| time.0)
}

/// Receipt of the newest callback of an app in the ledger, if there is one.
///
/// # Errors
/// The database does not answer in time, or does not fit.
async fn latest_in_ledger(state: &ApiState, app: SdkAppId) -> Result<Option<DateTime<Utc>>, ApiError> {
    let read = async { Ok(stats::latest(&mut *state.lookup_connection().await?, app).await?) };
    let late = || ApiError::unavailable("The database did not say in time which callback is the newest.");
    timeout(LATEST_WAIT_MAX, read).await.unwrap_or_else(|_| Err(late()))
}

/// Counts of groups, memberships and callbacks.
///
/// Cheap to call: counts that take long are reused for a while, and `counted_at` is their time. Answers while the database
/// is away, with the last counts.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "stats",
    tag = "stats",
    params(AppOnly),
    responses((status = 200, description = "The counts.", body = StatsView), Refused)
)]
pub(super) async fn stats(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(raw): RawQuery,
) -> Result<Json<StatsView>, ApiError> {
    let app = Query::parse(raw.as_deref(), &["sdk_app_id"])?.take_app(&caller, state.app)?;
    let (latest, counts) = if state.schema.fits() && !state.writer.is_database_away() {
        tokio::join!(latest_in_ledger(&state, app), state.stats_cache.counts())
    } else {
        (Err(ApiError::unavailable("The database is known to be away.")), state.stats_cache.last())
    };
    if let Err(error) = &latest {
        tracing::debug!(%error, error.cause = ?error.cause(), "the newest callback could not be read");
    }
    let none = AppCounts::default();
    let of_app = counts.as_ref().map(|counts| counts.apps.get(&app.get()).unwrap_or(&none));
    let received = state.writer.last_received(app).and_then(time);
    let counted = of_app.and_then(|counts| counts.last_callback_at);
    // One of no app may be of this one: a damage to the spool's file, which held callbacks of all, or a fault.
    let mut own = state.writer.gaps();
    own.retain(|gap| gap.app.is_none_or(|of| of == app.get()));
    Ok(Json(StatsView {
        sdk_app_id: app.get(),
        database_available: latest.is_ok(),
        groups: of_app.map(Into::into),
        members: of_app.map(|counts| counts.members),
        ledger: of_app.map(Into::into),
        spool: SpoolView::of(&state.writer.spool(), app),
        verification: of_app.map(Into::into),
        gaps: gaps_of(&own, of_app.map_or(&[], |counts| &counts.gaps)),
        refusals: state.refusals.totals(app).into(),
        relay: state.writer.outbox().backlog(app).map(Into::into),
        last_callback_at: latest.unwrap_or_default().max(counted).max(received).map(Timestamp),
        counted_at: counts.as_ref().map(|counts| Timestamp(counts.counted_at)),
    }))
}
