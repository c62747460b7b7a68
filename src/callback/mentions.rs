//! Whether a body names a user, as far as it can be read: for a search among the dead letters.
//!
//! What is parked has no event that says who did what, yet a person who looks for a user's trouble needs to find it. Any
//! field counts whose name Tencent ends with `_Account`, at any depth; of a body that breaks off, what stands before that.

use crate::json::{Json, JsonObject, read};
use crate::model::UserId;

/// How Tencent ends the name of a field that holds a user.
const ACCOUNT: &str = "_Account";

/// True where a field for a user names this one.
#[must_use]
pub fn mentions(body: &[u8], user: &UserId) -> bool {
    match read(body) {
        Ok(value) => value_mentions(&value, user),
        Err(broken) => object_mentions(&broken.read, user),
    }
}

fn value_mentions(value: &Json<'_>, user: &UserId) -> bool {
    match value {
        Json::Object(object) => object_mentions(object, user),
        Json::List(items) => items.iter().any(|item| value_mentions(item, user)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => false,
    }
}

fn object_mentions(object: &JsonObject<'_>, user: &UserId) -> bool {
    object.members().any(|(key, value)| match value {
        Json::Text(text) => {
            // A repaired id could be another one's.
            text.repaired.is_none() && key.text.ends_with(ACCOUNT) && text.text == user.as_str()
        }
        value => value_mentions(value, user),
    })
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
}
