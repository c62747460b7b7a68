//! Bodies as Tencent spells them; nothing outside `callback` sees these types.
//!
//! Every key is optional here: what must be there is decided in `decode`, where the reason can be told. Keys that no
//! page lists (`InviteOption`, `MsgPriority`) are ignored. `null` counts as absent.

use serde::Deserialize;
use serde_json::Value;

/// The union of all group bodies that change state.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Body {
    pub group_id: Option<String>,
    #[serde(rename = "Type")]
    pub group_type: Option<String>,
    #[serde(rename = "Operator_Account")]
    pub operator: Option<String>,
    #[serde(rename = "Owner_Account")]
    pub owner: Option<String>,
    #[serde(rename = "OldOwner_Account")]
    pub old_owner: Option<String>,
    #[serde(rename = "NewOwner_Account")]
    pub new_owner: Option<String>,
    pub name: Option<String>,
    pub introduction: Option<String>,
    pub notification: Option<String>,
    pub face_url: Option<String>,
    /// Read for a create only; whatever a destroy carries there must not keep it from being applied.
    pub member_list: Option<Value>,
    pub new_member_list: Option<Vec<Member>>,
    pub exit_member_list: Option<Vec<Member>>,
    pub join_type: Option<String>,
    pub exit_type: Option<String>,
    pub user_defined_data_list: Option<Vec<UserDefinedData>>,
    #[serde(rename = "Member_Account")]
    pub member: Option<String>,
    #[serde(rename = "Modified_Account")]
    pub modified: Option<String>,
    pub role: Option<String>,
    pub name_card: Option<String>,
    pub option_type: Option<String>,
    pub group_attr: Option<Vec<Attribute>>,
    pub topic_id: Option<String>,
    pub topic_id_list: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    #[serde(rename = "Member_Account")]
    pub account: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UserDefinedData {
    pub key: String,
    pub value: Option<String>,
}

/// Lower-case keys, unlike user-defined fields (1047/60394).
#[derive(Debug, Deserialize)]
pub(super) struct Attribute {
    pub key: String,
    pub value: Option<String>,
}

/// The table of 1047/49465 says String, its sample shows an array.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}
