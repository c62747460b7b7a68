//! `GET /v1/stats`: how much is in the mirror, and whether callbacks arrive.
//!
//! Counts come from `stats_cache` and may be some time old, because counting a large mirror takes seconds; the spool and
//! the last callback are read for each request.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::errors::ApiError;
use super::openapi::Refused;
use super::parameters::AppOnly;
use super::query::Query;
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::refusals::RefusalTotal;
use crate::spool::SpoolStatus;
use crate::store::stats::{self, AppCounts};

/// What a group of an unknown type is counted under in `by_type`.
const UNKNOWN: &str = "unknown";

/// Counts of one app, and the state of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct StatsView {
    sdk_app_id: i64,
    groups: GroupCounts,
    /// Present memberships.
    members: i64,
    ledger: LedgerCounts,
    spool: SpoolView,
    refusals: RefusalsView,
    /// When the last callback was received; null where none is in the ledger.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_callback_at: Option<Timestamp>,
    /// When groups, members and ledger were counted. The counts are kept for twenty times as long as that took.
    #[schema(value_type = String, format = DateTime)]
    counted_at: Timestamp,
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

/// The spool of the process that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct SpoolView {
    /// Callbacks in it.
    depth: u64,
    /// What they are charged with.
    bytes: u64,
    /// Receipt of the oldest.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_at: Option<Timestamp>,
}

/// Requests that the public listener of the process that answers did not take, since its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RefusalsView {
    total: u64,
    /// Every cause, those that never happened with 0.
    by_cause: BTreeMap<&'static str, u64>,
    /// The newest one; null where there was none.
    last: Option<LastRefusal>,
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

impl From<SpoolStatus> for SpoolView {
    fn from(status: SpoolStatus) -> Self {
        let oldest = status.oldest.and_then(|oldest| DateTime::from_timestamp_millis(oldest.get()));
        Self { depth: status.depth, bytes: status.bytes, oldest_at: oldest.map(Timestamp) }
    }
}

/// Counts of groups, memberships and callbacks.
///
/// Cheap to call: counts that take long are reused for a while, and `counted_at` is their time.
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
    let latest = stats::latest(&mut *state.connection().await?, app).await?;
    let counts = state.stats_cache.counts().await?;
    let none = AppCounts::default();
    let of_app = counts.apps.get(&app.get()).unwrap_or(&none);
    Ok(Json(StatsView {
        sdk_app_id: app.get(),
        groups: of_app.into(),
        members: of_app.members,
        ledger: of_app.into(),
        spool: state.spool.borrow().clone().into(),
        refusals: state.refusals.totals().into(),
        last_callback_at: latest.max(of_app.last_callback_at).map(Timestamp),
        counted_at: Timestamp(counts.counted_at),
    }))
}
