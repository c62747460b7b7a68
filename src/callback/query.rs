//! The query string of a callback without its signature, and with a new one: what is kept of it, and what a late delivery
//! sends.
//!
//! `Sign` is good for a minute and is a secret for as long, so it is not stored; a backend that checks it would refuse it
//! later in any case. Everything else keeps its bytes and its order, because backends route by it. The new signature stands
//! at the end, where Tencent's own does.

use super::signature::Token;

/// The parameters that authenticate a request (1047/34354).
const SIGNATURE: [&str; 2] = ["Sign", "RequestTime"];

/// Whether a part between two `&` is the parameter with this name, however the name is escaped.
fn is_named(part: &str, name: &str) -> bool {
    form_urlencoded::parse(part.as_bytes()).next().is_some_and(|(key, _)| key == name)
}

/// The query without `Sign` and `RequestTime`.
#[must_use]
pub fn without_signature(query: &str) -> String {
    let is_kept = |part: &&str| !SIGNATURE.iter().any(|name| is_named(part, name));
    query.split('&').filter(is_kept).collect::<Vec<_>>().join("&")
}

/// `RequestTime` of the query, in Unix seconds; of a repeated one the first counts.
#[must_use]
pub fn request_time(query: &str) -> Option<i64> {
    let part = query.split('&').find(|part| is_named(part, SIGNATURE[1]))?;
    let (_, value) = form_urlencoded::parse(part.as_bytes()).next()?;
    value.parse().ok()
}

/// A query that was kept without its signature, signed for a moment in Unix seconds. Without a token it stays unsigned.
#[must_use]
pub fn signed_anew(kept: &str, token: Option<&Token>, now_secs: i64) -> String {
    let Some(token) = token else { return kept.to_owned() };
    let time = now_secs.to_string();
    let and = if kept.is_empty() { "" } else { "&" };
    format!("{kept}{and}Sign={}&RequestTime={time}", token.sign(&time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_no_signature_and_all_else_byte_for_byte() {
        for (query, kept) in [
            ("", ""),
            ("Sign=a&RequestTime=1", ""),
            ("SdkAppid=1&CallbackCommand=x&Sign=a&RequestTime=1", "SdkAppid=1&CallbackCommand=x"),
            ("Sign=a&a=%41+b&&=?/&%53ign=b&RequestTime&b=%e4", "a=%41+b&&=?/&b=%e4"),
            ("Signed=a&sign=b", "Signed=a&sign=b"),
        ] {
            assert_eq!(without_signature(query), kept, "{query}");
            assert_eq!(without_signature(kept), kept, "{query}");
        }
    }

    #[test]
    fn a_new_signature_stands_at_the_end_and_without_a_token_there_is_none() {
        let token = Token::new("xxxxyyyy".to_owned());
        let sign = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";
        let signed = signed_anew("SdkAppid=1", Some(&token), 1_669_872_112);
        assert_eq!(signed, format!("SdkAppid=1&Sign={sign}&RequestTime=1669872112"));
        assert_eq!(request_time(&signed), Some(1_669_872_112));
        assert_eq!(signed_anew("", Some(&token), 1_669_872_112), signed["SdkAppid=1&".len()..]);
        assert_eq!(signed_anew("SdkAppid=1", None, 0), "SdkAppid=1");
        assert_eq!(request_time("SdkAppid=1&RequestTime=x"), None);
    }
}
