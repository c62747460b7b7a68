//! Reconcile: groups are read from Tencent's REST API, so that the mirror is right where no callback says so.
//!
//! `reading*` reads groups of one app and says what was read: snapshots for [`crate::ingest::commit_snapshots`], and a verdict
//! per group. It knows no database; which groups are read, and when, is decided elsewhere. What a reading may claim,
//! and under which assumption, stands in `docs/reconcile.md`.

mod app_run;
mod dry_run;
mod engine;
mod joint_commits;
mod lead;
mod pass;
mod pass_gone;
mod pass_known;
mod pass_lists;
mod pass_sweep;
mod pass_work;
mod reading;
mod reading_details;
mod reading_evidence;
mod reading_list;
mod reading_members;
mod reading_packed;
mod reading_rows;
mod reading_verdict;
mod rolling;
mod shares;

pub use engine::{AppSource, Engine, PassCounts, PassEnd, PassKind, PassSettings};
pub use lead::FOLLOW_UPS_MAX;
pub use pass_gone::{gone_limit, mass_gone};
pub use reading::{AskedFields, GroupReader, IdPage, UNANSWERED_MAX};
pub use reading_details::{DetailReading, DetailState};
pub use reading_evidence::{
    EVIDENCE_MARGIN_MS, GONE_DISTANCE_MS, KnownOfGroup, STALE_TIME_MS, STALE_TRIES, Stale, accepts_stale,
    gone, profile_staleness,
};
pub use reading_list::{ListMark, ListProgress};
pub use reading_members::{LIST_ROWS_AT_ONCE_MAX, ListStep};
pub use reading_packed::{AskedGroup, PACKED_MEMBERS_MAX};
pub use reading_rows::ListRows;
pub use reading_verdict::{
    GroupReading, GroupVerdict, IncompleteWhy, ListReading, ListState, MembersRead, ReadHalt, ReadSpare,
    UnknownWhy, Witnesses,
};
pub use rolling::ended_line;
