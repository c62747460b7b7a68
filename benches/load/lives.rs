//! The lives of groups as bodies of callbacks, in order of event time: for the yardsticks of order.

use serde_json::{Value, json};

/// The event time of the first.
pub(crate) const T0: i64 = 1_700_000_000_000;

/// Members by number.
pub(crate) fn members(range: std::ops::Range<usize>) -> Value {
    range.map(|number| json!({ "Member_Account": format!("user-{number:07}") })).collect()
}

/// A body of `Group.CallbackAfter…`.
pub(crate) fn body(command: &str, group: &str, time: i64, more: &Value) -> Value {
    let mut body = json!({ "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": group,
                           "Type": "Public", "Operator_Account": "ana", "EventTime": T0 + time });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The lives of at most 1,000 groups, twenty events each.
pub(crate) fn lives(groups: i64) -> Vec<Value> {
    let mut in_order = Vec::new();
    for step in 0..20_i64 {
        for group in 0..groups {
            let id = format!("@TGS#2GROUP{group:05}");
            let user = usize::try_from(step).unwrap() % 7;
            let one = members(user..user + 1);
            let time = step * 1000 + group;
            in_order.push(match step {
                0 => body(
                    "CreateGroup",
                    &id,
                    time,
                    &json!({ "Name": "n", "Owner_Account": "ana", "MemberList": members(0..5) }),
                ),
                4 | 9 | 14 => body("GroupInfoChanged", &id, time, &json!({ "Name": format!("name {step}") })),
                step if step % 2 == 0 => {
                    body("MemberExit", &id, time, &json!({ "ExitType": "Quit", "ExitMemberList": one }))
                }
                _ => body("NewMemberJoin", &id, time, &json!({ "JoinType": "Apply", "NewMemberList": one })),
            });
        }
    }
    in_order
}

/// The same by a fixed stride: 7,919 is prime and no divisor of the count, so that everything comes once.
pub(crate) fn shuffled<T: Clone>(in_order: &[T]) -> Vec<T> {
    (0..in_order.len()).map(|at| in_order[at * 7919 % in_order.len()].clone()).collect()
}
