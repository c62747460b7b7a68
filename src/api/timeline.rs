//! `GET /v1/groups/{group_id}/timeline`: the number of members and the events of a group over time, in buckets.
//!
//! Query → [`TimeRange`] → fold of `replay` → [`TimelineView`] → JSON. The fold has the same limits and permits as a read as
//! of a moment, and a bucket shows at its end what such a read shows; this file decides which count is known.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use strum::VariantArray as _;
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{SchemaType, Type};

use super::auth::Caller;
use super::errors::ApiError;
use super::etag::{IfNoneMatch, tagged};
use super::openapi::{Gone, NotFound, Refused, TooLarge};
use super::parameters::{GroupPath, app, query, time};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::mirror::{GroupKey, group_key};
use crate::model::{GroupId, Millis};
use crate::replay::TimeRange;
use crate::replay::as_of::AsOfError;
use crate::replay::timeline::{EntryKind, TimeBucket, Timeline};

/// How many buckets there are without the parameter.
const BUCKETS_DEFAULT: u16 = 60;

/// The most buckets: more than a line on a screen has points.
const BUCKETS_MAX: u16 = 500;

/// The parameters, for the OpenAPI document.
struct TimelineParameters;

impl utoipa::IntoParams for TimelineParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let buckets = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(i64::from(BUCKETS_MAX)))
            .default(Some(BUCKETS_DEFAULT.into()));
        vec![
            query("buckets", buckets, "How many buckets; there are no more than milliseconds."),
            query("after", time(), "Only later than this; without it: from the first entry on."),
            query("before", time(), "Only earlier than this; without it: up to and with the last entry."),
            app(),
        ]
    }
}

/// A stretch of time: later than `begin`, and not later than `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TimelineBucket {
    #[schema(value_type = String, format = DateTime)]
    begin: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    end: Option<Timestamp>,
    /// Members at `end`, the same as with `at=end` of the group. Null where there may be others than those that are known.
    #[schema(minimum = 0)]
    member_count: Option<usize>,
    /// How many users joined, those of a create included; who came back within the bucket counts again.
    joins: u64,
    /// How many users left by themselves. The end of the group is no leave of its members.
    leaves: u64,
    /// How many users were removed by another (`Kicked`).
    removals: u64,
    /// How many entries the history has of each command, parked ones included; those of an unknown command as `unknown`.
    events: BTreeMap<String, u64>,
    /// The gravest kind among the entries; null where there are none.
    #[schema(schema_with = shown_kinds)]
    worst: Option<&'static str>,
}

fn shown_kinds() -> ObjectBuilder {
    let kinds = EntryKind::VARIANTS.iter().rev().map(|kind| Value::from(kind.as_str()));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(kinds.chain([Value::Null])))
        .description(Some("The gravest kind among the entries; null where there are none."))
}

impl TimelineBucket {
    fn of(bucket: TimeBucket, avchatroom_members: bool) -> Self {
        Self {
            begin: Timestamp::of_millis(bucket.begin.get()),
            end: Timestamp::of_millis(bucket.end.get()),
            member_count: bucket.members.shown(avchatroom_members),
            joins: bucket.joins,
            leaves: bucket.leaves,
            removals: bucket.removals,
            events: bucket.events,
            worst: bucket.worst.map(EntryKind::as_str),
        }
    }
}

/// The number of members and the events of a group over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TimelineView {
    sdk_app_id: i64,
    group_id: String,
    /// Members where the first bucket begins; null where that is not known.
    #[schema(minimum = 0)]
    member_count_before: Option<usize>,
    /// In the order of time, without holes; empty where no millisecond lies between `after` and `before`.
    buckets: Vec<TimelineBucket>,
}

impl TimelineView {
    fn of(GroupKey { app, group }: &GroupKey, timeline: Timeline, avchatroom_members: bool) -> Self {
        let bucket = |bucket| TimelineBucket::of(bucket, avchatroom_members);
        Self {
            sdk_app_id: app.get(),
            group_id: group.as_str().to_owned(),
            member_count_before: timeline.before.shown(avchatroom_members),
            buckets: timeline.buckets.into_iter().map(bucket).collect(),
        }
    }
}

fn range(query: &mut Query) -> Result<TimeRange, ApiError> {
    let want = format!("a whole number from 1 to {BUCKETS_MAX}");
    let buckets = query.take("buckets", &want, |text| {
        text.parse::<u16>().ok().filter(|count| (1..=BUCKETS_MAX).contains(count))
    })?;
    let after = query.take_time("after")?;
    let before = query.take_time("before")?;
    if let (Some(after), Some(before)) = (after, before)
        && after >= before
    {
        return Err(ApiError::bad_parameter("Parameter after must be an earlier time than before."));
    }
    // A bound of the API is a time that it can write.
    let bound = |ms: i64| Millis::new(Timestamp::clamped(ms));
    let before = before.map(|time| {
        let is_finer = !time.timestamp_subsec_nanos().is_multiple_of(1_000_000);
        bound(time.timestamp_millis() + i64::from(is_finer))
    });
    let after = after.map(|time| bound(time.timestamp_millis()));
    Ok(TimeRange { after, before, buckets: buckets.unwrap_or(BUCKETS_DEFAULT) })
}

/// Members and events of a group over time, in buckets of equal length.
///
/// By event time, as the history; from the first entry to the last one, unless `after` and `before` say otherwise, both
/// exclusive. Callbacks and complete lists change the number of members, and the end of the group ends it. It is folded from
/// all entries up to `before`, anew each time, within the limits of a group as of a moment.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}/timeline",
    operation_id = "group_timeline",
    tag = "groups",
    params(GroupPath, IfNoneMatch, TimelineParameters),
    responses(
        (status = 200, description = "The timeline.", body = TimelineView, headers(("ETag", description = "Of this form."))),
        (status = 304, description = "The caller has the newest form."),
        Refused,
        NotFound,
        Gone,
        TooLarge,
    )
)]
pub(super) async fn of_group(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let mut query = Query::parse(raw.as_deref(), &["buckets", "after", "before", "sdk_app_id"])?;
    let key = group_key(query.take_app(&caller, state.app)?, group);
    let range = range(&mut query)?;
    state.fits()?;
    let timeline = match state.as_of.timeline(&key, range).await {
        Err(AsOfError::Unknown) => return Err(ApiError::unknown_group(&key.group)),
        done => done?,
    };
    tagged(&headers, &TimelineView::of(&key, timeline, state.avchatroom_members))
}
