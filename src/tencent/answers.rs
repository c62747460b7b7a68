//! The envelope of every answer: whether the command succeeded, and the object that the rest is read from.
//!
//! Success is `ErrorCode` 0 together with `ActionStatus` `OK`; `ErrorInfo` may be empty, `ok` or absent and is never
//! tested. The codes of single groups, topics and members stand inside the answer: the one of the envelope says nothing
//! about them. Pure: bytes in, a typed answer out.

use thiserror::Error;

use super::fields::AnswerFields;
use crate::json::{self, Json, JsonObject};

/// How much of `ErrorInfo` is kept, in characters: it is for a log line.
pub const ERROR_INFO_CHARS_MAX: usize = 200;

/// A word of `ErrorInfo` that is longer is left out: it might be a UserSig that Tencent repeats.
const ERROR_INFO_WORD_MAX: usize = 64;

/// A code of Tencent that is not 0, of an answer or of a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Tencent answers with code {code}: {info:?}")]
pub struct ApiCode {
    /// `ErrorCode`.
    pub code: i64,
    /// `ErrorInfo`, for people only.
    pub info: String,
}

/// Why an answer says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// The command failed.
    #[error(transparent)]
    Code(#[from] ApiCode),
    /// Not JSON, or no object.
    #[error("the answer is no JSON object: byte {at}, {why}")]
    NotJson {
        /// The first byte that does not fit.
        at: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// JSON, but without the field that the answer is about.
    #[error("the answer has no readable {0}")]
    Missing(&'static str),
}

/// Reads the envelope, then the rest by `read`.
pub(super) fn successful<T>(
    bytes: &[u8],
    read: impl FnOnce(&JsonObject<'_>) -> Result<T, AnswerError>,
) -> Result<T, AnswerError> {
    let answer =
        json::read(bytes).map_err(|broken| AnswerError::NotJson { at: broken.at, why: broken.why })?;
    let Json::Object(object) = &answer else {
        return Err(AnswerError::NotJson { at: 0, why: "it is no object" });
    };
    if let Some(code) = code(object)? {
        return Err(code.into());
    }
    let status = AnswerFields::new(object).text(&["ActionStatus"]);
    match status.as_deref() {
        Some("OK") => read(object),
        Some(_) => Err(ApiCode { code: 0, info: "ActionStatus is not OK".to_owned() }.into()),
        None => Err(AnswerError::Missing("ActionStatus")),
    }
}

/// The code of an answer or of a part of one; none where it is 0.
pub(super) fn code(object: &JsonObject<'_>) -> Result<Option<ApiCode>, AnswerError> {
    let mut fields = AnswerFields::new(object);
    match fields.number(&["ErrorCode"]) {
        None => Err(AnswerError::Missing("ErrorCode")),
        Some(0) => Ok(None),
        Some(code) => {
            let info = fields.text(&["ErrorInfo"]).unwrap_or_default();
            Ok(Some(ApiCode { code, info: loggable(&info) }))
        }
    }
}

/// `ErrorInfo` as a log line may hold it.
fn loggable(info: &str) -> String {
    let words = info.split_whitespace().map(|word| if word.len() > ERROR_INFO_WORD_MAX { "…" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(ERROR_INFO_CHARS_MAX).collect()
}
