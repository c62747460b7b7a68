//! The users that a body names, as far as it can be read: for a search among the dead letters.
//!
//! A callback that is parked has no event that says who did what, yet a person who looks for a user's trouble needs to find
//! it. Any field counts whose name Tencent ends with `_Account`, at any depth; of a body that breaks off, what stands before
//! that. An id that had to be repaired names no user, because it could be another one's.

use super::wire;
use crate::json::{Json, JsonObject, read};
use crate::model::UserId;

/// How Tencent ends the name of a field that holds a user.
const ACCOUNT: &str = "_Account";

/// What the name of a field says of the user in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountField {
    /// The one who acts.
    Operator,
    /// An owner, of now or of before.
    Owner,
    /// Any other field for a user.
    Member,
}

/// The users in fields for users, in the order of the body.
#[must_use]
pub fn accounts(body: &[u8]) -> Vec<(AccountField, UserId)> {
    let mut found = Vec::new();
    match read(body) {
        Ok(value) => add_value(&value, &mut found),
        Err(broken) => add_object(&broken.read, &mut found),
    }
    found
}

/// True where a field for a user names this one.
#[must_use]
pub fn mentions(body: &[u8], user: &UserId) -> bool {
    accounts(body).iter().any(|(_, named)| named == user)
}

fn add_value(value: &Json<'_>, found: &mut Vec<(AccountField, UserId)>) {
    match value {
        Json::Object(object) => add_object(object, found),
        Json::List(items) => items.iter().for_each(|item| add_value(item, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
    }
}

fn add_object(object: &JsonObject<'_>, found: &mut Vec<(AccountField, UserId)>) {
    for (key, value) in object.members() {
        match value {
            Json::Text(text) if key.text.ends_with(ACCOUNT) => {
                let user = UserId::parse(&text.text).ok().filter(|_| text.repaired.is_none());
                found.extend(user.map(|user| (field(&key.text), user)));
            }
            value => add_value(value, found),
        }
    }
}

fn field(key: &str) -> AccountField {
    match key {
        wire::OPERATOR => AccountField::Operator,
        wire::OWNER | wire::OLD_OWNER | wire::NEW_OWNER => AccountField::Owner,
        _ => AccountField::Member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelError;

    #[test]
    fn a_user_is_found_in_any_field_for_users_as_far_as_the_body_can_be_read() -> Result<(), ModelError> {
        let user = UserId::parse("ana")?;
        for (body, named) in [
            (&br#"{"Member_Account":"ana","Role":"Boss"}"#[..], true),
            (br#"{"NewMemberList":[{"Member_Account":7},{"Member_Account":"ana"}]}"#, true),
            (br#"{"Operator_Account":"ana","Name":"cut off here"#, true),
            (br#"{"Name":"cut off here ,"Operator_Account":"ana"}"#, false),
            (br#"{"Name":"ana","Operator_Account":"anas"}"#, false),
            (b"{\"Operator_Account\":\"ana\xff\"}", false),
            (br#"["ana"]"#, false),
            (b"\x00\xff", false),
        ] {
            assert_eq!(mentions(body, &user), named, "{}", String::from_utf8_lossy(body));
        }
        Ok(())
    }

    #[test]
    fn the_name_of_a_field_says_what_the_user_is() {
        let body = br#"{"Operator_Account":"a","NewOwner_Account":"b","List":[{"Member_Account":"c"},{"X_Account":"d"}]}"#;
        let found: Vec<_> =
            accounts(body).into_iter().map(|(field, user)| (field, user.as_str().to_owned())).collect();
        // Members of an object are in the order of their names.
        let wanted = [
            (AccountField::Member, "c"),
            (AccountField::Member, "d"),
            (AccountField::Owner, "b"),
            (AccountField::Operator, "a"),
        ];
        assert_eq!(found, wanted.map(|(field, user)| (field, user.to_owned())));
    }
}
