//! Which function answers which command of which service.
//!
//! A command under another service is unknown (10003). What users do by themselves has a service of its own, `sdk`, which
//! the REST API does not reach; the random life and the test door do.

use super::code::{AskedBody, FakeCode};
use super::detail_writes::{AttributeWrite, create_topic, destroy_topic, modify_topic, write_attributes};
use super::group_writes::{self, FakeAnswer};
use super::world::{Actor, World};
use super::{member_reads, member_writes, reads};

/// What users do by themselves.
pub(super) const SDK: &str = "sdk";

/// Where most commands are.
pub(super) const GROUPS: &str = "group_open_http_svc";

/// Where the commands of topics are.
pub(super) const TOPICS: &str = "million_group_open_http_svc";

/// Answers a command; `refused` are accounts that a before-callback does not let in.
pub(super) fn answer(
    world: &mut World,
    (service, command): (&str, &str),
    body: AskedBody<'_>,
    actor: Actor<'_>,
    refused: &[String],
) -> FakeAnswer {
    match (service, command) {
        (GROUPS, "get_appid_group_list") => reads::get_appid_group_list(world, body),
        (GROUPS, "get_group_info") => reads::get_group_info(world, body),
        (GROUPS, "get_joined_group_list") => reads::get_joined_group_list(world, body),
        ("group_open_attr_http_svc", "get_group_attr") => reads::get_group_attr(world, body),
        (TOPICS, "get_topic") => reads::get_topic(world, body),
        (GROUPS, "get_group_member_info") => member_reads::get_group_member_info(world, body),
        (GROUPS, "get_specified_group_member_info") => {
            member_reads::get_specified_group_member_info(world, body)
        }
        (GROUPS, "get_role_in_group") => member_reads::get_role_in_group(world, body),
        (GROUPS, "get_group_muted_account" | "get_group_shutted_uin") => {
            member_reads::get_group_muted_account(world, body)
        }
        (GROUPS, "get_online_member_num") => member_reads::get_online_member_num(world, body),
        ("group_open_avchatroom_http_svc", "get_members") => member_reads::get_members(world, body),
        (GROUPS, "create_group") => group_writes::create_group(world, body, actor),
        (GROUPS, "import_group") => group_writes::import_group(world, body),
        (GROUPS, "modify_group_base_info") => group_writes::modify_group_base_info(world, body, actor),
        (GROUPS, "change_group_owner") => group_writes::change_group_owner(world, body, actor),
        (GROUPS, "destroy_group") => group_writes::destroy_group(world, body, actor),
        (GROUPS, "add_group_member") => member_writes::add_group_member(world, body, actor, refused),
        (GROUPS, "delete_group_member") => member_writes::delete_group_member(world, body, actor),
        (GROUPS, "import_group_member") => member_writes::import_group_member(world, body),
        (GROUPS, "modify_group_member_info") => member_writes::modify_group_member_info(world, body, actor),
        (GROUPS, "forbid_send_msg") => member_writes::forbid_send_msg(world, body),
        (GROUPS, "set_group_attr") => write_attributes(world, body, actor, AttributeWrite::Set),
        (GROUPS, "modify_group_attr") => write_attributes(world, body, actor, AttributeWrite::Modify),
        (GROUPS, "delete_group_attr") => write_attributes(world, body, actor, AttributeWrite::Delete),
        (GROUPS, "clear_group_attr") => write_attributes(world, body, actor, AttributeWrite::Clear),
        (TOPICS, "create_topic") => create_topic(world, body, actor, false),
        (TOPICS, "import_topic") => create_topic(world, body, actor, true),
        (TOPICS, "modify_topic") => modify_topic(world, body, actor),
        (TOPICS, "destroy_topic") => destroy_topic(world, body),
        (SDK, "user_joins") => member_writes::user_joins(world, body),
        (SDK, "user_quits") => member_writes::user_quits(world, body),
        (SDK, "account_ends") => member_writes::account_ends(world, body),
        _ => Err(FakeCode::new(10003, "unknown command")),
    }
}
