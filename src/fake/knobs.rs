//! The knobs of the fake: everything that Tencent's pages leave open, or that goes wrong between Tencent and a mirror.
//!
//! Where a page states a behaviour there is no knob. The usual values are the plain reading of the pages without any
//! fault. Shares are numbers from 0 to 1; knobs can be set at the start and through the test door while the fake runs.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which names the fields of answers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spelling {
    /// `MuteUntil`, `MuteAllMember`, `MutedAccountList`.
    New,
    /// `ShutUpUntil`, `ShutUpAllMember`, `ShuttedUinList`.
    Old,
}

/// What becomes of a `Limit` above 200 of a list of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LargeLimit {
    /// Served up to 6,000.
    Served,
    /// Cut without a word, to 200 unless another knob says otherwise.
    Cut,
    /// 10004.
    Refused,
}

/// In which order members are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListOrder {
    /// By the time of joining; who joins again stands at the end.
    Join,
    /// By account.
    Account,
}

/// What stands where there is nothing to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyForm {
    /// An empty list.
    List,
    /// `null`.
    Null,
    /// No key.
    Absent,
}

/// How `EventTime` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventTimeForm {
    /// A number.
    Number,
    /// A quoted number.
    Text,
    /// One or the other by chance.
    Mixed,
    /// Not at all.
    Absent,
}

/// All knobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Which names the fields of answers have.
    pub spelling: Spelling,
    /// Whether a success has `ErrorInfo`.
    pub error_info: bool,
    /// Whether answers have keys that no page lists.
    pub extra_keys: bool,
    /// Tencent's published limits are multiplied by this.
    pub rate_factor: f64,
    /// Calls per second of the whole app, behind which 60011 comes; 0: no such limit.
    pub app_rate: f64,
    /// The largest answer in bytes; a larger one becomes 10018.
    pub answer_bytes_max: usize,
    /// Share of calls answered by a proxy's HTTP 502.
    pub http_502: f64,
    /// Share of calls whose connection breaks in the middle of the answer.
    pub cut: f64,
    /// Share of calls answered late, with 60008.
    pub slow: f64,
    /// How late that is, in milliseconds.
    pub slow_ms: u64,
    /// Share of calls answered with 10002.
    pub internal_error: f64,
    /// Bad signatures in a row behind which 70050 comes.
    pub bad_signatures_max: u32,
    /// How long it comes, in milliseconds.
    pub ban_ms: u64,
    /// Whether answers have a `Date`.
    pub date: bool,
    /// How far `Date` stands from the true time, in milliseconds.
    pub date_skew_ms: i64,
    /// How old the state may be that a read shows, in milliseconds; drawn anew for each read, for profile and members apart.
    pub lag_ms: u32,
    /// How long the id of a destroyed group stays in the list of ids, in milliseconds.
    pub linger_ms: u32,
    /// Whether all past states are kept, so that the test door can show them.
    pub keep_history: bool,
    /// Whether the last page of ids has no `Next` instead of 0.
    pub next_absent: bool,
    /// Whether `InfoSeq` exists for those who ask for it.
    pub info_seq: bool,
    /// Whether elements of `get_group_info` come in another order than asked for.
    pub shuffled: bool,
    /// The longest `MemberList` inside `get_group_info`, cut without a word; 0: as long as it is.
    pub packed_members_max: usize,
    /// What becomes of a `Limit` above 200.
    pub large_limit: LargeLimit,
    /// How many rows a cut `Limit` brings; a community's pages are cut like that too.
    pub cut_rows: u64,
    /// In which order members are listed.
    pub list_order: ListOrder,
    /// Whether `Role` has a blank at its end.
    pub role_blank: bool,
    /// How many members of the page before a page of a community repeats.
    pub cursor_repeats: u64,
    /// Whether `Offset` for a community is 10004 instead of being ignored.
    pub community_offset_refused: bool,
    /// What a group without attributes answers.
    pub no_attributes: EmptyForm,
    /// What a community without topics answers.
    pub no_topics: EmptyForm,
    /// Whether `get_topic` from an account that is no member is 10007.
    pub topics_for_members_only: bool,
    /// Whether changes are stored as notices and so count in `NextMsgSeq`.
    pub notices: bool,
    /// How far event times stand from the true time at most, in milliseconds, both ways.
    pub skew_ms: u32,
    /// How `EventTime` is written.
    pub event_time: EventTimeForm,
    /// Whether the owner stands in `MemberList` of a create.
    pub owner_listed: bool,
    /// Whether a change of a member names it `Modified_Account`.
    pub modified_account: bool,
    /// How late the create of a community is sent, in milliseconds.
    pub community_create_late_ms: u64,
    /// Callback commands whose switch in the console is off.
    pub callbacks_off: Vec<String>,
    /// Share of callbacks that are never sent.
    pub lost: f64,
    /// Share of callbacks that are sent twice.
    pub doubled: f64,
    /// Share of callbacks that are held back, so that others overtake them.
    pub delayed: f64,
    /// How long they are held back at most, in milliseconds.
    pub delay_ms: u64,
    /// How often an after-callback is sent again after a failure; Tencent's usual setting is never.
    pub retries: u32,
    /// Whether before-callbacks are on.
    pub before_callbacks: bool,
    /// Whether an action is blocked whose before-callback was not answered; else it passes.
    pub before_blocks: bool,
    /// Share of the changes of a random life for which no callback is sent, or none that says what has changed.
    pub silent: f64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            spelling: Spelling::New,
            error_info: true,
            extra_keys: false,
            rate_factor: 1.0,
            app_rate: 0.0,
            answer_bytes_max: 1 << 20,
            http_502: 0.0,
            cut: 0.0,
            slow: 0.0,
            slow_ms: 3_000,
            internal_error: 0.0,
            bad_signatures_max: 10,
            ban_ms: 60_000,
            date: true,
            date_skew_ms: 0,
            lag_ms: 0,
            linger_ms: 0,
            keep_history: false,
            next_absent: false,
            info_seq: false,
            shuffled: false,
            packed_members_max: 0,
            large_limit: LargeLimit::Served,
            cut_rows: 200,
            list_order: ListOrder::Join,
            role_blank: false,
            cursor_repeats: 0,
            community_offset_refused: false,
            no_attributes: EmptyForm::List,
            no_topics: EmptyForm::List,
            topics_for_members_only: false,
            notices: true,
            skew_ms: 0,
            event_time: EventTimeForm::Number,
            owner_listed: false,
            modified_account: false,
            community_create_late_ms: 3_000,
            callbacks_off: Vec::new(),
            lost: 0.0,
            doubled: 0.0,
            delayed: 0.0,
            delay_ms: 2_000,
            retries: 0,
            before_callbacks: false,
            before_blocks: false,
            silent: 0.1,
        }
    }
}

impl Knobs {
    /// These knobs with some of them changed: a JSON object of names and values.
    ///
    /// # Errors
    /// A name that is none, or a value that does not fit.
    pub fn with(&self, changes: &Value) -> anyhow::Result<Self> {
        let changes = changes.as_object().context("knobs are a JSON object")?;
        let mut all = serde_json::to_value(self)?;
        for (name, value) in changes {
            ensure!(all.get(name).is_some(), "there is no knob {name:?}; GET /fake/knobs lists them");
            all[name] = value.clone();
        }
        let knobs: Self = serde_json::from_value(all).context("knobs")?;
        knobs.check()?;
        Ok(knobs)
    }

    /// These knobs with one changed, as the command line writes it: `name=value`.
    ///
    /// # Errors
    /// A text without `=`, a name that is none, or a value that does not fit.
    pub fn with_text(&self, text: &str) -> anyhow::Result<Self> {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--knob is {text:?}; it should read like lost=0.1"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        self.with(&serde_json::json!({ name: value })).with_context(|| format!("--knob {text}"))
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, share) in [
            ("http_502", self.http_502),
            ("cut", self.cut),
            ("slow", self.slow),
            ("internal_error", self.internal_error),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("delayed", self.delayed),
            ("silent", self.silent),
        ] {
            ensure!((0.0..=1.0).contains(&share), "knob {name} is {share}; it should be a share from 0 to 1");
        }
        ensure!(self.cut_rows > 0, "knob cut_rows is 0; a page has a row");
        ensure!(self.rate_factor > 0.0, "knob rate_factor is {}; it should be above 0", self.rate_factor);
        ensure!(self.app_rate >= 0.0, "knob app_rate is {}; it should not be below 0", self.app_rate);
        Ok(())
    }
}
