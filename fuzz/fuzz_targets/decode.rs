//! One byte that chooses the query, then a body: decoding never panics, and gives the same again from the ledger.
#![no_main]

use group_mirror_fuzz::callback::{Decoded, STATE_COMMANDS, decode};
use group_mirror_fuzz::mirror::{self, Rows};
use group_mirror_fuzz::model::storable;
use group_mirror_fuzz::{RECEIVED_MS, received};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let query = match choice % 16 {
        0 => Some("Group.x\0".to_owned()),
        1 => Some("State.StateChange".to_owned()),
        at @ 2..13 => Some(STATE_COMMANDS[usize::from(at - 2)].to_owned()),
        _ => None,
    };
    let first = decode(received(body, query.clone(), RECEIVED_MS));
    assert_eq!(decode(received(body, query, RECEIVED_MS)), first);
    let Decoded::Kept(callback) = first else { return };
    let query = callback.received.query_command.as_deref().map(storable);
    let kept = query.filter(|query| *query != callback.command).unwrap_or_else(|| callback.command.clone());
    let Decoded::Kept(again) = decode(received(body, Some(kept), RECEIVED_MS)) else { panic!("not kept") };
    assert_eq!((&again.event, &again.command), (&callback.event, &callback.command));
    assert_eq!(
        (again.time, again.event_time, again.digest),
        (callback.time, callback.event_time, callback.digest)
    );
    let facts = mirror::facts(&callback);
    let rows = Rows::of(facts.clone());
    assert_eq!(rows, Rows::of(facts.iter().rev().chain(&facts).cloned()));
    assert_eq!(rows.groups.len(), usize::from(callback.event.is_ok()));
});
