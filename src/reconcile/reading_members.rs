//! Lists of members: read page by page, and, before anyone is taken for gone, confirmed.
//!
//! Several lists may be read at the same time under the one rate limiter of the client; together they hold at most
//! [`LIST_ROWS_AT_ONCE_MAX`] rows. No list, however read, proves alone that a user is no member: servers may answer from
//! different moments. So those whom a complete list leaves out and the mirror shows are asked for by name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::reading::{CallFailure, GroupReader, LIMIT_SAFE, ROWS_MAX};
use super::reading_list::{ListMark, ListProgress, PageStep};
use super::reading_verdict::{
    IncompleteWhy, ListReading, ListState, ReadHalt, ReadSpare, UnknownWhy, Witnesses,
};
use crate::model::UserId;
use crate::tencent::codes::CodeClass;
use crate::tencent::commands::{MEMBERS_OF_A_CALL_MAX, PageBegin, ROLES_OF_A_CALL_MAX};
use crate::tencent::members::ListedMember;

/// The rows of lists that are in memory at the same time; a list that would exceed it waits. A list with more by itself is
/// kept as incomplete.
pub const LIST_ROWS_AT_ONCE_MAX: u32 = ROWS_MAX;

/// What one call about a list leads to.
#[derive(Debug)]
pub enum ListStep {
    /// There are more pages. A caller that wants to go on after an interruption keeps the rows, which are an answer of
    /// the command, and the mark.
    Page {
        /// Where to go on. None: the list begins anew, and what was kept of it is void.
        mark: Option<ListMark>,
        /// The rows that were new.
        rows: Vec<u8>,
    },
    /// The list, as far as it was read.
    Done(ListReading),
}

impl GroupReader {
    /// Reads the list of members of a group. It waits until rows are free; drop a reading before the next one is asked for.
    ///
    /// # Errors
    /// No further call.
    pub async fn members(&self, witnesses: &Witnesses, spare: ReadSpare) -> Result<ListReading, ReadHalt> {
        let mut list = ListProgress::new(witnesses, spare);
        if witnesses.has_no_list() {
            return Ok(list.finish(ListState::Unsupported, self.client.clock_bound()));
        }
        loop {
            if let ListStep::Done(reading) = self.next_page(&mut list).await? {
                return Ok(reading);
            }
        }
    }

    /// Makes one call about a list.
    ///
    /// # Errors
    /// No further call; the list can go on later.
    pub async fn next_page(&self, list: &mut ListProgress) -> Result<ListStep, ReadHalt> {
        if list.permit.is_none() {
            let rows = Arc::clone(&self.rows).acquire_many_owned(list.expected_rows());
            let permit = self.stop.run_until_cancelled(rows).await.ok_or(ReadHalt::Cancelled)?;
            list.permit = permit.ok();
        }
        let bound = self.client.clock_bound();
        let (begin, limit) = list.question(self.limit.load(Ordering::Relaxed));
        let (group, fields) = (list.group.group.clone(), &self.fields.members);
        let reply = self.client.members(&group, &begin, limit, fields, &self.stop).await;
        let step = match self.judged(reply)? {
            Ok(reply) => list.take(&reply),
            Err(failure) => self.failed_page(list, failure, (&begin, limit)),
        };
        Ok(match step {
            PageStep::More(rows) => ListStep::Page { mark: list.mark().cloned(), rows },
            PageStep::Done(state) => ListStep::Done(list.finish(state, bound)),
        })
    }

    fn failed_page(
        &self,
        list: &mut ListProgress,
        failure: CallFailure,
        (begin, limit): (&PageBegin, u32),
    ) -> PageStep {
        let is_other = match failure {
            CallFailure::Question(CodeClass::TooMuch, _) => list.halve(),
            CallFailure::Question(CodeClass::Bug, _) => {
                let is_large = matches!(begin, PageBegin::Offset(_)) && limit > LIMIT_SAFE;
                if is_large {
                    self.limit.store(LIMIT_SAFE, Ordering::Relaxed);
                }
                list.ask_otherwise()
            }
            _ => false,
        };
        if is_other {
            return PageStep::More(crate::tencent::canonical::member_list([]));
        }
        PageStep::Done(match failure {
            CallFailure::Question(CodeClass::Gone, _) => ListState::Gone,
            CallFailure::Question(CodeClass::Unsupported, _) => ListState::Unsupported,
            _ if list.has_rows() => ListState::Incomplete(IncompleteWhy::Interrupted),
            other => ListState::Unknown(other.unknown()),
        })
    }

    /// Asks for those by name whom the mirror shows and a complete list leaves out. Members among them are added to the
    /// list; where that cannot be found out, or they are too many, the list counts as incomplete.
    ///
    /// # Errors
    /// No further call.
    pub async fn confirmed(
        &self,
        mut list: ListReading,
        present: &[UserId],
    ) -> Result<ListReading, ReadHalt> {
        let left_out = list.leaves_out(present);
        let mut members = Vec::new();
        for users in left_out.chunks(ROLES_OF_A_CALL_MAX) {
            match self.members_among(&list, users).await? {
                Ok(found) => members.extend(found),
                Err(_) => {
                    list.state = ListState::Incomplete(IncompleteWhy::Unconfirmed);
                    return Ok(list);
                }
            }
        }
        if members.is_empty() {
            return Ok(list);
        }
        let rows =
            if members.len() > MEMBERS_OF_A_CALL_MAX { None } else { self.rows_of(&list, &members).await? };
        match rows {
            Some(rows) => {
                rows.iter().for_each(|row| list.rows.push(row));
                list.rows.sort();
            }
            None => list.state = ListState::Incomplete(IncompleteWhy::LeavesOut),
        }
        Ok(list)
    }

    /// Those of some users who are members; each has to be named in the answer.
    async fn members_among(
        &self,
        list: &ListReading,
        users: &[UserId],
    ) -> Result<Result<Vec<UserId>, UnknownWhy>, ReadHalt> {
        let reply = self.client.roles(&list.group.group, users, &self.stop).await;
        let answer = match self.judged(reply)? {
            Ok(reply) => reply.answer,
            Err(failure) => return Ok(Err(failure.unknown())),
        };
        let is_answered = |user: &UserId| answer.users.iter().any(|said| said.user == *user);
        if !users.iter().all(is_answered) {
            return Ok(Err(UnknownWhy::NotInAnswer));
        }
        let members = answer.users.into_iter().filter(|said| said.is_member && users.contains(&said.user));
        Ok(Ok(members.map(|said| said.user).collect()))
    }

    /// The rows of these members, if there is one of each.
    async fn rows_of(
        &self,
        list: &ListReading,
        users: &[UserId],
    ) -> Result<Option<Vec<ListedMember>>, ReadHalt> {
        let (group, fields) = (&list.group.group, &self.fields.members);
        let reply = self.client.specified_members(group, users, fields, &self.stop).await;
        let Ok(reply) = self.judged(reply)? else { return Ok(None) };
        let rows = reply.answer.members;
        let is_there = |user: &UserId| rows.iter().any(|row| row.user == *user);
        Ok(users.iter().all(is_there).then_some(rows))
    }
}
