//! The client of Tencent's REST API: one method per read command.
//!
//! Each method says how an answer is asked for and read; how calls are made, repeated and given up stands in `calls`. All
//! methods are reads, so repeating one changes nothing at Tencent. `stop` ends a call at any moment.

use tokio_util::sync::CancellationToken;

use super::answers::ApiCode;
use super::call_error::CallError;
use super::calls::{Calls, ClientSettings, Reply};
use super::commands::{self, InfoFilter, PageBegin, ReadCommand};
use super::details::{AttributesAnswer, TopicsAnswer};
use super::groups::{GroupIdPage, GroupInfos, JoinedGroups};
use super::members::{MemberPage, MutedAnswer, RolesAnswer};
use super::transport::{AddressError, AnswerHead};
use crate::model::{FieldKey, GroupId, Millis, TopicId, UserId};

/// A client of one app.
#[derive(Debug)]
pub struct TencentClient {
    calls: Calls,
}

impl TencentClient {
    /// Reads the settings; no call is made yet.
    ///
    /// # Errors
    /// An address that is none, or is not safe.
    pub fn new(settings: ClientSettings) -> Result<Self, AddressError> {
        Calls::new(settings).map(|calls| Self { calls })
    }

    /// Our clock minus [`CLOCK_MARGIN_MS`](super::CLOCK_MARGIN_MS): a lower bound of Tencent's for an answer whose time is
    /// not known, such as an error code.
    #[must_use]
    pub fn clock_bound(&self) -> Millis {
        self.calls.clock_bound()
    }

    /// Why no calls are made: the code that halted the client. None: they are made.
    #[must_use]
    pub fn halted(&self) -> Option<ApiCode> {
        self.calls.halted()
    }

    /// Makes calls possible again, after a person has acted.
    pub fn resume(&self) {
        self.calls.resume();
    }

    /// The head of the newest answer, whatever that said, and our clock when it came; `None`: no answer has come.
    #[must_use]
    pub fn last_head(&self) -> Option<(AnswerHead, Millis)> {
        self.calls.last_head()
    }

    /// The share of the published limit of a command that is used now.
    #[must_use]
    pub fn share(&self, command: ReadCommand) -> f64 {
        self.calls.share(command)
    }

    /// A page of the ids of all groups, `next` 0 at first.
    ///
    /// # Errors
    /// No answer.
    pub async fn group_ids(
        &self,
        next: u64,
        limit: u32,
        group_type: Option<&str>,
        stop: &CancellationToken,
    ) -> Result<Reply<GroupIdPage>, CallError> {
        let body = commands::group_ids(next, limit, group_type);
        self.calls.call(ReadCommand::GroupIds, &body, GroupIdPage::read, stop).await
    }

    /// Profiles of 1 to 50 groups.
    ///
    /// # Errors
    /// No answer; the codes of single groups stand in the answer.
    pub async fn group_infos(
        &self,
        groups: &[GroupId],
        filter: &InfoFilter,
        stop: &CancellationToken,
    ) -> Result<Reply<GroupInfos>, CallError> {
        let body = commands::group_info(groups, filter);
        self.calls.call(ReadCommand::GroupInfo, &body, GroupInfos::read, stop).await
    }

    /// A page of members, with the custom fields of these keys.
    ///
    /// # Errors
    /// No answer.
    pub async fn members(
        &self,
        group: &GroupId,
        begin: &PageBegin,
        limit: u32,
        fields: &[FieldKey],
        stop: &CancellationToken,
    ) -> Result<Reply<MemberPage>, CallError> {
        let body = commands::members(group, begin, limit, fields);
        self.calls.call(ReadCommand::Members, &body, MemberPage::read, stop).await
    }

    /// 1 to 50 given members.
    ///
    /// # Errors
    /// No answer.
    pub async fn specified_members(
        &self,
        group: &GroupId,
        users: &[UserId],
        fields: &[FieldKey],
        stop: &CancellationToken,
    ) -> Result<Reply<MemberPage>, CallError> {
        let body = commands::specified_members(group, users, fields);
        self.calls.call(ReadCommand::SpecifiedMembers, &body, MemberPage::read, stop).await
    }

    /// The roles of 1 to 500 users, members or not.
    ///
    /// # Errors
    /// No answer.
    pub async fn roles(
        &self,
        group: &GroupId,
        users: &[UserId],
        stop: &CancellationToken,
    ) -> Result<Reply<RolesAnswer>, CallError> {
        let body = commands::roles(group, users);
        self.calls.call(ReadCommand::Roles, &body, RolesAnswer::read, stop).await
    }

    /// Who is muted in a group, members or not.
    ///
    /// # Errors
    /// No answer.
    pub async fn muted(
        &self,
        group: &GroupId,
        stop: &CancellationToken,
    ) -> Result<Reply<MutedAnswer>, CallError> {
        let body = commands::of_group(group);
        self.calls.call(ReadCommand::Muted, &body, MutedAnswer::read, stop).await
    }

    /// The groups of a user.
    ///
    /// # Errors
    /// No answer.
    pub async fn joined_groups(
        &self,
        user: &UserId,
        offset: u64,
        limit: u32,
        stop: &CancellationToken,
    ) -> Result<Reply<JoinedGroups>, CallError> {
        let body = commands::joined_groups(user, offset, limit);
        self.calls.call(ReadCommand::JoinedGroups, &body, JoinedGroups::read, stop).await
    }

    /// The attributes of a group.
    ///
    /// # Errors
    /// No answer.
    pub async fn attributes(
        &self,
        group: &GroupId,
        stop: &CancellationToken,
    ) -> Result<Reply<AttributesAnswer>, CallError> {
        let body = commands::of_group(group);
        self.calls.call(ReadCommand::Attributes, &body, AttributesAnswer::read, stop).await
    }

    /// Topics of a community: these, or all where none is named. `from` has to be a member as far as is known: whether
    /// Tencent answers an administrator who is none is documented nowhere.
    ///
    /// # Errors
    /// No answer; the codes of single topics stand in the answer.
    pub async fn topics(
        &self,
        group: &GroupId,
        from: &UserId,
        topics: &[TopicId],
        stop: &CancellationToken,
    ) -> Result<Reply<TopicsAnswer>, CallError> {
        let body = commands::topics(group, from, topics);
        self.calls.call(ReadCommand::Topics, &body, TopicsAnswer::read, stop).await
    }
}
