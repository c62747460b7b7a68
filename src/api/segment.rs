//! A part of the feed as bytes that were written once for all followers, and the latest parts of it.
//!
//! A segment says from which position to which it is complete, so a follower that stands before its beginning knows that
//! it has to read the ledger itself. The latest segments form a chain without a hole: a follower that comes back at a place
//! in it needs nothing of the database, so that thousands which lost their connections together resume at once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Bytes;

use super::change::{FeedPosition, event_text};
use super::errors::ApiError;
use crate::store::feed::{ChangeRow, FeedFilter, FeedPlace};

/// How many segments are kept: as many as a follower may be behind before it reads the ledger itself. They hold at most some
/// 80 MiB, and usually far less.
pub(super) const SEGMENTS_MAX: usize = 32;

/// Rows of one segment. With the longest ids and names an event has about 10 KiB; usually it has 800 bytes.
pub(super) const SEGMENT_ROWS_MAX: i64 = 256;

/// A part of the feed without a hole: every entry after `from`, up to and with `to`.
#[derive(Debug)]
pub(super) struct Segment {
    /// Of which ledger.
    pub(super) epoch: String,
    /// The reader has begun here, and says nothing of what came before: each follower reads the ledger itself.
    pub(super) begins: bool,
    pub(super) from: i64,
    pub(super) to: FeedPlace,
    entries: Vec<SegmentEntry>,
    bytes: Bytes,
}

#[derive(Debug)]
struct SegmentEntry {
    row: ChangeRow,
    text: Range<usize>,
}

impl Segment {
    /// Writes rows as events, once for all who follow.
    pub(super) fn of(epoch: &str, from: i64, to: FeedPlace, rows: Vec<ChangeRow>) -> Result<Self, ApiError> {
        let (mut bytes, mut entries) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            let begin = bytes.len();
            bytes.extend(event_text(epoch, &row)?);
            entries.push(SegmentEntry { row, text: begin..bytes.len() });
        }
        assert!(
            entries.iter().all(|entry| (from + 1..=to.position).contains(&entry.row.place.position)),
            "a segment holds what lies between its ends"
        );
        Ok(Self { epoch: epoch.to_owned(), begins: false, from, to, entries, bytes: bytes.into() })
    }

    pub(super) fn beginning(epoch: &str, at: &FeedPlace) -> Self {
        let (entries, bytes) = (Vec::new(), Bytes::new());
        Self { epoch: epoch.to_owned(), begins: true, from: at.position, to: at.clone(), entries, bytes }
    }

    /// What of it comes after a position and fits a filter; not copied, in as few pieces as possible.
    pub(super) fn after(&self, position: i64, filter: &FeedFilter) -> Vec<Bytes> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let wanted = |entry: &&SegmentEntry| entry.row.place.position > position && filter.fits(&entry.row);
        for SegmentEntry { text, .. } in self.entries.iter().filter(wanted) {
            match runs.last_mut() {
                Some(run) if run.end == text.start => run.end = text.end,
                _ => runs.push(text.clone()),
            }
        }
        runs.into_iter().map(|run| self.bytes.slice(run)).collect()
    }

    /// Whether the reader has seen an entry at this place.
    fn has(&self, place: &FeedPlace) -> bool {
        self.to == *place || self.entries.iter().any(|entry| entry.row.place == *place)
    }
}

/// The latest segments of one ledger, each of which begins where the one before it ends.
#[derive(Debug, Default)]
pub(super) struct RecentSegments(VecDeque<Arc<Segment>>);

impl RecentSegments {
    pub(super) fn push(&mut self, segment: Arc<Segment>) {
        if segment.begins {
            self.0.clear();
        }
        assert!(
            self.0.back().is_none_or(|last| last.to.position == segment.from && last.epoch == segment.epoch),
            "a segment begins where the one before it ends"
        );
        if self.0.len() == SEGMENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(segment);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The segments with what comes after a position, none where that is nothing. `None`: the position is not one in here.
    pub(super) fn after(&self, position: &FeedPosition) -> Option<Vec<Arc<Segment>>> {
        let place = position.place();
        let found = self.0.iter().rposition(|segment| {
            (segment.from..=segment.to.position).contains(&place.position)
                && segment.epoch == position.epoch
                && segment.has(&place)
        })?;
        let later = self.0.iter().skip(found).filter(|segment| segment.to.position > place.position);
        Some(later.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn place(position: i64) -> FeedPlace {
        FeedPlace { position, digest: format!("d{position}") }
    }

    fn row(position: i64, group: &str) -> ChangeRow {
        ChangeRow {
            place: place(position),
            sdk_app_id: 7,
            group_id: group.to_owned(),
            command: "c".to_owned(),
            event_time_ms: None,
            received_at: DateTime::UNIX_EPOCH,
            source: "callback".to_owned(),
            outcome: "applied".to_owned(),
            operator: None,
            users: None,
            user_count: 0,
            group_name: None,
        }
    }

    fn segment(from: i64, to: i64) -> Arc<Segment> {
        let rows = (from + 1..=to).map(|position| row(position, "g")).collect();
        Arc::new(Segment::of("e", from, place(to), rows).unwrap())
    }

    fn ends(recent: &RecentSegments, epoch: &str, place: &FeedPlace) -> Option<Vec<i64>> {
        let segments = recent.after(&FeedPosition::of(epoch, place))?;
        Some(segments.iter().map(|segment| segment.to.position).collect())
    }

    #[test]
    fn a_place_that_was_seen_is_resumed_at_and_no_other() {
        let mut recent = RecentSegments::default();
        recent.push(Arc::new(Segment::beginning("e", &place(10))));
        recent.push(segment(10, 12));
        recent.push(segment(12, 15));
        for (at, wanted) in [
            (9, None),
            (10, Some(vec![12, 15])),
            (11, Some(vec![12, 15])),
            (12, Some(vec![15])),
            (15, Some(vec![])),
        ] {
            assert_eq!(ends(&recent, "e", &place(at)), wanted, "{at}");
        }
        assert_eq!(ends(&recent, "other", &place(12)), None);
        assert_eq!(ends(&recent, "e", &FeedPlace { position: 12, digest: "x".into() }), None);
        assert_eq!(ends(&recent, "e", &place(16)), None);
        recent.push(Arc::new(Segment::beginning("e", &place(11))));
        assert_eq!(ends(&recent, "e", &place(12)), None, "the ledger has become shorter");
    }

    #[test]
    fn no_more_segments_are_kept_than_a_follower_may_be_behind() {
        let mut recent = RecentSegments::default();
        for at in 0..100 {
            recent.push(segment(at, at + 1));
        }
        assert_eq!(recent.0.len(), SEGMENTS_MAX);
        assert_eq!(ends(&recent, "e", &place(100)), Some(vec![]));
        assert_eq!(ends(&recent, "e", &place(50)), None);
    }

    #[test]
    fn a_filter_takes_its_entries_out_of_a_segment_in_order() {
        let rows = vec![row(1, "a"), row(2, "a"), row(3, "b"), row(4, "a")];
        let segment = Segment::of("e", 0, place(4), rows).unwrap();
        let of = |group: &str| FeedFilter {
            group: Some(crate::model::GroupId::parse(group).unwrap()),
            ..FeedFilter::ALL
        };
        assert_eq!(segment.after(0, &FeedFilter::ALL).concat(), segment.bytes);
        assert_eq!((segment.after(0, &of("a")).len(), segment.after(1, &of("a")).len()), (2, 2));
        assert_eq!((segment.after(0, &of("b")).len(), segment.after(3, &of("b")).len()), (1, 0));
    }
}
