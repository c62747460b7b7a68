//! What `/v1/stats` says about freshness: how old verification is, what reads have repaired, and the gaps.
//!
//! Counts as they were counted → views. All classes and kinds of drift are there from the start, with 0, so that a reader
//! can tell nothing from not counted. A gap of this process that the database does not have yet is listed beside the others.

use std::collections::BTreeMap;

use serde::Serialize;
use strum::VariantArray as _;
use utoipa::ToSchema;

use super::timestamp::Timestamp;
use crate::mirror::{DriftClass, DriftKind};
use crate::spool::{GAPS_LISTED_MAX, Gap};
use crate::store::drift_totals::DriftTotal;
use crate::store::gaps::CountedGap;
use crate::store::stats::AppCounts;

/// How fresh the groups are that exist, and what reads of Tencent's REST API have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct VerificationView {
    /// The oldest verification of a profile; null where none was verified.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_verified_at: Option<Timestamp>,
    /// The oldest complete list of members.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_members_verified_at: Option<Timestamp>,
    /// Of the groups whose profile and members are verified 99.9 % are verified as of this time or a later one.
    #[schema(value_type = Option<String>, format = DateTime)]
    p999_verified_at: Option<Timestamp>,
    /// Groups whose profile or members were never verified. An audio-video room has no list of members to verify.
    never_verified: i64,
    /// Groups whose profile or members were not verified within 24 hours, the never verified ones included.
    outstanding: i64,
    /// When the newest pass through the list of all ids began that was completed; null: none was.
    #[schema(value_type = Option<String>, format = DateTime)]
    id_list_at: Option<Timestamp>,
    drift: DriftView,
}

/// Differences that reads have found between Tencent and the mirror, and mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct DriftView {
    /// What callbacks should have said: the number of losses, as far as Tencent reports every change.
    repaired: DriftTotalsView,
    /// What no callback says.
    silent: DriftTotalsView,
    /// What the mirror did not claim to know, such as groups that are older than it.
    found: DriftTotalsView,
}

/// Differences of one meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct DriftTotalsView {
    total: i64,
    /// Every kind, those that never happened with 0.
    by_kind: BTreeMap<&'static str, i64>,
    /// When the first was found; null: none was.
    #[schema(value_type = Option<String>, format = DateTime)]
    first_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_at: Option<Timestamp>,
}

impl DriftTotalsView {
    fn of(class: DriftClass, totals: &[DriftTotal]) -> Self {
        let label: &str = class.into();
        let mine = || totals.iter().filter(|total| total.class == label);
        let count = |kind: &str| mine().filter(|total| total.kind == kind).map(|total| total.count).sum();
        let kinds = DriftKind::VARIANTS.iter().map(<&'static str>::from);
        let by_kind: BTreeMap<&'static str, i64> = kinds.map(|kind| (kind, count(kind))).collect();
        Self {
            total: by_kind.values().sum(),
            by_kind,
            first_at: mine().map(|total| total.first_at).min().map(Timestamp),
            last_at: mine().map(|total| total.last_at).max().map(Timestamp),
        }
    }
}

impl From<&AppCounts> for VerificationView {
    fn from(counts: &AppCounts) -> Self {
        let (fresh, drift) = (counts.freshness.clone().unwrap_or_default(), &counts.drift);
        Self {
            oldest_verified_at: fresh.oldest_verified_at.map(Timestamp),
            oldest_members_verified_at: fresh.oldest_members_verified_at.map(Timestamp),
            p999_verified_at: fresh.p999_whole_at.map(Timestamp),
            never_verified: fresh.never_verified,
            outstanding: fresh.outstanding,
            id_list_at: fresh.id_list_at.map(Timestamp),
            drift: DriftView {
                repaired: DriftTotalsView::of(DriftClass::Repaired, drift),
                silent: DriftTotalsView::of(DriftClass::Silent, drift),
                found: DriftTotalsView::of(DriftClass::Found, drift),
            },
        }
    }
}

/// A period in which callbacks were not made durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct GapView {
    /// Receipt of the first one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) begin: Option<Timestamp>,
    /// Receipt of the last one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) end: Option<Timestamp>,
    /// Why, such as `spool_full`.
    pub(crate) cause: String,
    /// How many; null where that is not known.
    pub(crate) callbacks: Option<u64>,
    /// How many groups it may have touched: those that exist and were created before its end. Null where the gap is closed,
    /// and where that is not counted yet.
    pub(crate) groups: Option<i64>,
    /// Of these so many are verified again: profile and members were read as of a time that is surely after the end.
    pub(crate) verified: Option<i64>,
    /// When all of them were found verified, after a pass through the list of all ids; null: the gap is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) closed_at: Option<Timestamp>,
}

impl From<&Gap> for GapView {
    fn from(gap: &Gap) -> Self {
        Self {
            begin: Timestamp::of_millis(gap.first_ms),
            end: Timestamp::of_millis(gap.last_ms),
            cause: gap.cause.clone(),
            callbacks: Some(gap.callbacks).filter(|count| *count > 0),
            groups: None,
            verified: None,
            closed_at: None,
        }
    }
}

impl From<&CountedGap> for GapView {
    fn from(counted: &CountedGap) -> Self {
        let gap = &counted.gap;
        Self {
            begin: Some(Timestamp(gap.first_at)),
            end: Some(Timestamp(gap.last_at)),
            cause: gap.cause.clone(),
            callbacks: u64::try_from(gap.callbacks).ok().filter(|count| *count > 0),
            groups: counted.groups,
            verified: counted.verified,
            closed_at: gap.closed_at.map(Timestamp),
        }
    }
}

/// The gaps of all replicas as they were counted, and those of this process as they are now: where both have one, the
/// process knows its end and the count what was verified. The newest first, at most [`GAPS_LISTED_MAX`].
pub(crate) fn gaps(own: &[Gap], counted: &[CountedGap]) -> Vec<GapView> {
    let mut views: Vec<GapView> = counted.iter().map(GapView::from).collect();
    for gap in own.iter().map(GapView::from) {
        let known = views.iter_mut().find(|known| known.begin == gap.begin && known.cause == gap.cause);
        match known {
            Some(known) if known.end < gap.end => *known = gap,
            Some(_) => {}
            None => views.push(gap),
        }
    }
    views.sort_by(|a, b| (b.end, b.begin, &b.cause).cmp(&(a.end, a.begin, &a.cause)));
    views.truncate(GAPS_LISTED_MAX);
    views
}
