//! The reader of one app: the client, what is asked for, and what all its readings share.
//!
//! One reader serves many tasks at the same time; the client's rate limiters space their calls. What an error code leads
//! to is decided here, once, for all reads: about the question (the caller asks for less, or for something else), about the
//! moment (the group is unknown), or about everything (no further call). Many calls without an answer in a row are about
//! everything as well: with a wrong address every group would be unknown, one by one, for hours.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::reading_verdict::{ReadHalt, UnknownWhy};
use crate::mirror::{GroupKey, group_key};
use crate::model::{FieldKey, GroupId, SdkAppId};
use crate::tencent::answers::AnswerError;
use crate::tencent::client::TencentClient;
use crate::tencent::codes::CodeClass;
use crate::tencent::commands::{IDS_OF_A_PAGE_MAX, InfoFilter};
use crate::tencent::groups::{GroupIdPage, is_community};
use crate::tencent::{CallError, Reply};

/// So many calls in a row without an answer, each with all its repetitions, end a pass.
pub const UNANSWERED_MAX: u32 = 10;

/// The `Limit` of a list of members: what the table of the page allows, and what is used after that was refused.
pub(super) const LIMIT_LARGE: u32 = 6_000;
pub(super) const LIMIT_SAFE: u32 = 100;

/// The rows of lists that may be in memory at the same time.
pub(super) const ROWS_MAX: u32 = 1_000_000;

/// The fields of the envelope of an answer.
const ENVELOPE: [&str; 2] = ["ErrorCode", "ActionStatus"];

/// The most keys of custom fields of groups that are asked for.
const GROUP_KEYS_MAX: usize = 50;

/// The keys of custom fields that are asked for. An answer holds no others, and a read of a profile ends those that it
/// does not hold: so every key that the mirror holds has to be asked for as well, see [`GroupReader::ask_also`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedFields {
    /// Of groups. Empty: the fields are not read, and none ends.
    pub group: Vec<FieldKey>,
    /// Of members.
    pub members: Vec<FieldKey>,
}

/// What a page of ids says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdPage {
    /// The page.
    Read(GroupIdPage),
    /// It could not be read; the list is not at its end.
    Unknown(UnknownWhy),
}

/// Why a call brought no answer, as far as it is not about everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallFailure {
    /// About the question, with the code where there was one: another question may have an answer.
    Question(CodeClass, i64),
    /// The answer cannot be read; that of a smaller question may be.
    Unreadable,
    /// About the moment.
    Moment(UnknownWhy),
}

impl CallFailure {
    pub(super) fn unknown(self) -> UnknownWhy {
        match self {
            Self::Question(class, _) => UnknownWhy::of(class),
            Self::Unreadable => UnknownWhy::Unreadable,
            Self::Moment(why) => why,
        }
    }
}

fn code_of(error: &CallError) -> i64 {
    if let CallError::Code { code, .. } = error { code.code } else { 0 }
}

/// Keys of custom fields of groups that the mirror holds and the settings do not name.
#[derive(Debug, Default)]
struct HeldKeys {
    keys: Vec<FieldKey>,
    /// True where there are more than are asked for: then no answer says which fields a group has not.
    are_too_many: bool,
}

/// Reads the groups of one app.
#[derive(Debug)]
pub struct GroupReader {
    pub(super) client: Arc<TencentClient>,
    pub(super) app: SdkAppId,
    pub(super) fields: AskedFields,
    pub(super) stop: CancellationToken,
    held_keys: RwLock<HeldKeys>,
    /// True after custom fields were refused: a key may be without the permission to read it.
    pub(super) are_fields_refused: AtomicBool,
    /// [`LIMIT_LARGE`], or [`LIMIT_SAFE`] after that was refused.
    pub(super) limit: AtomicU32,
    pub(super) rows: Arc<Semaphore>,
    /// Calls in a row without an answer.
    unanswered: AtomicU32,
}

impl GroupReader {
    /// A reader; no call is made yet. `stop` ends calls at any moment.
    #[must_use]
    pub fn new(
        client: Arc<TencentClient>,
        app: SdkAppId,
        fields: AskedFields,
        stop: CancellationToken,
    ) -> Self {
        Self {
            client,
            app,
            fields,
            stop,
            held_keys: RwLock::default(),
            are_fields_refused: AtomicBool::new(false),
            limit: AtomicU32::new(LIMIT_LARGE),
            rows: Arc::new(Semaphore::new(ROWS_MAX as usize)),
            unanswered: AtomicU32::new(0),
        }
    }

    /// A page of the ids of all groups, `next` 0 at first; the last page says 0. What is missing in the list is no
    /// candidate for anything: its order and consistency are documented nowhere.
    ///
    /// # Errors
    /// No further call.
    pub async fn id_page(&self, next: u64) -> Result<IdPage, ReadHalt> {
        let reply = self.client.group_ids(next, IDS_OF_A_PAGE_MAX, None, &self.stop).await;
        Ok(match self.judged(reply)? {
            Ok(reply) => IdPage::Read(reply.answer),
            Err(failure) => IdPage::Unknown(failure.unknown()),
        })
    }

    /// The keys of the custom fields that a group has: an answer without a filter names all of them. None of a community, of
    /// which that is never asked, and none where there is no answer.
    ///
    /// # Errors
    /// No further call.
    pub async fn field_keys_of(&self, group: &GroupId) -> Result<Vec<FieldKey>, ReadHalt> {
        if is_community(group) {
            return Ok(Vec::new());
        }
        let filter = InfoFilter { everything: true, ..InfoFilter::default() };
        let reply = self.client.group_infos(std::slice::from_ref(group), &filter, &self.stop).await;
        let Ok(reply) = self.judged(reply)? else { return Ok(Vec::new()) };
        let infos = reply.answer.elements.into_iter().filter_map(|element| element.info.ok());
        let fields = infos.filter_map(|info| info.custom_fields).flatten();
        Ok(fields.map(|(key, _)| key).collect())
    }

    /// Asks for these keys of custom fields of groups as well, from the next call on. Above the limit they are not asked for,
    /// and from then on no read ends a field.
    pub fn ask_also(&self, held: &[FieldKey]) {
        let is_new =
            |key: &FieldKey, keys: &[FieldKey]| !self.fields.group.contains(key) && !keys.contains(key);
        let known = self.held_keys.read().unwrap_or_else(PoisonError::into_inner);
        if known.are_too_many || !held.iter().any(|key| is_new(key, &known.keys)) {
            return;
        }
        drop(known);
        let mut known = self.held_keys.write().unwrap_or_else(PoisonError::into_inner);
        for key in held {
            if !is_new(key, &known.keys) {
                continue;
            }
            if self.fields.group.len() + known.keys.len() < GROUP_KEYS_MAX {
                known.keys.push(key.clone());
            } else {
                known.are_too_many = true;
            }
        }
    }

    /// The keys of custom fields of groups that are asked for, and whether these are all that are known.
    pub(super) fn group_keys(&self) -> (Vec<FieldKey>, bool) {
        let known = self.held_keys.read().unwrap_or_else(PoisonError::into_inner);
        (self.fields.group.iter().chain(&known.keys).cloned().collect(), !known.are_too_many)
    }

    pub(super) fn key(&self, group: &GroupId) -> GroupKey {
        group_key(self.app, group.clone())
    }

    /// Sorts what came of a call.
    pub(super) fn judged<T>(
        &self,
        reply: Result<Reply<T>, CallError>,
    ) -> Result<Result<Reply<T>, CallFailure>, ReadHalt> {
        self.judged_by(reply, |_| true)
    }

    /// The same; an answer that is not about the question counts as none.
    pub(super) fn judged_by<T>(
        &self,
        reply: Result<Reply<T>, CallError>,
        is_about: impl FnOnce(&T) -> bool,
    ) -> Result<Result<Reply<T>, CallFailure>, ReadHalt> {
        let error = match reply {
            Ok(reply) => {
                if is_about(&reply.answer) {
                    self.unanswered.store(0, Ordering::Relaxed);
                } else {
                    self.without_answer(&"an answer about something else")?;
                }
                return Ok(Ok(reply));
            }
            Err(error) => error,
        };
        let failure = match &error {
            CallError::Halted(_) => return Err(ReadHalt::Stopped(error.to_string())),
            CallError::Cancelled => return Err(ReadHalt::Cancelled),
            // The envelope was good, so Tencent has answered; what it says is not understood.
            CallError::Unreadable { error: AnswerError::Missing(field), .. } if !ENVELOPE.contains(field) => {
                return Ok(Err(CallFailure::Unreadable));
            }
            CallError::Unreadable { .. } => CallFailure::Unreadable,
            CallError::Code { .. } | CallError::Exchange { .. } => match error.class() {
                None => CallFailure::Moment(UnknownWhy::Unanswered),
                // The client has halted, or does so with the next call.
                Some(CodeClass::Stop | CodeClass::Signature) => {
                    return Err(ReadHalt::Stopped(error.to_string()));
                }
                Some(class @ (CodeClass::Again | CodeClass::Wait | CodeClass::Rate)) => {
                    CallFailure::Moment(UnknownWhy::of(class))
                }
                Some(
                    class @ (CodeClass::Gone
                    | CodeClass::TopicGone
                    | CodeClass::Unsupported
                    | CodeClass::TooMuch
                    | CodeClass::Bug
                    | CodeClass::Refused),
                ) => {
                    self.unanswered.store(0, Ordering::Relaxed);
                    return Ok(Err(CallFailure::Question(class, code_of(&error))));
                }
            },
        };
        self.without_answer(&error)?;
        Ok(Err(failure))
    }

    /// Counts a call that brought nothing about anything.
    fn without_answer(&self, why: &dyn std::fmt::Display) -> Result<(), ReadHalt> {
        let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if unanswered < UNANSWERED_MAX {
            return Ok(());
        }
        Err(ReadHalt::Unanswered(format!("{unanswered} calls in a row brought no answer, the last: {why}")))
    }
}
