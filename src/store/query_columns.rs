//! What came in the query of a callback, as the ledger stores it: in a column of a small type where the text follows from that
//! byte for byte, else as it came.
//!
//! Pure. The functions `ledger_request_id`, `ledger_client_ip` and `ledger_platform` of the schema read it back.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::model::storable;

/// The platforms that Tencent names. Their places, counted from 1, are stored, and never change.
const PLATFORMS: [&str; 9] =
    ["RESTAPI", "Web", "Android", "iOS", "Windows", "iPad", "macOS", "Mac", "Unknown"];

/// Three values of a query in their columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct QueryColumns {
    /// An address.
    pub(super) client_ip: Option<String>,
    /// The number of a platform.
    pub(super) platform: Option<i16>,
    /// A UUID.
    pub(super) request_id: Option<String>,
    /// What fits none of these columns: a JSON object with the names of the query.
    pub(super) odd_values: Option<String>,
}

impl QueryColumns {
    /// Of `ClientIP`, `OptPlatform` and `RequestID`.
    pub(super) fn of(client_ip: Option<&str>, platform: Option<&str>, request_id: Option<&str>) -> Self {
        let mut columns = Self::default();
        let mut odd = Map::new();
        let mut keep = |name: &str, text: &str| odd.insert(name.to_owned(), Value::String(storable(text)));
        match client_ip {
            Some(text) if is_address(text) => columns.client_ip = Some(text.to_owned()),
            Some(text) => drop(keep("ClientIP", text)),
            None => {}
        }
        match platform.map(|text| (text, number_of(text))) {
            Some((_, Some(number))) => columns.platform = Some(number),
            Some((text, None)) => drop(keep("OptPlatform", text)),
            None => {}
        }
        match request_id {
            Some(text) if is_uuid(text) => columns.request_id = Some(text.to_owned()),
            Some(text) => drop(keep("RequestID", text)),
            None => {}
        }
        columns.odd_values = (!odd.is_empty()).then(|| Value::Object(odd).to_string());
        columns
    }
}

fn number_of(platform: &str) -> Option<i16> {
    let at = PLATFORMS.iter().position(|known| *known == platform)?;
    i16::try_from(at + 1).ok()
}

/// True for an address as PostgreSQL writes it. Of IPv6 those are left out that hold one of IPv4, or look like it: there is more
/// than one usual form of them.
fn is_address(text: &str) -> bool {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return address.to_string() == text;
    }
    let Ok(address) = text.parse::<Ipv6Addr>() else { return false };
    let holds_none = address.segments()[..6] != [0; 6] && !text.contains('.');
    holds_none && address.to_string() == text
}

/// True for a UUID as PostgreSQL writes it.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_that_follow_from_a_column_are_put_into_it() {
        let uuid = "5c0e1a40-9d35-4b0b-8a77-0123456789ab";
        let whole = QueryColumns::of(Some("203.0.113.9"), Some("Android"), Some(uuid));
        assert_eq!((whole.platform, whole.odd_values), (Some(3), None));
        for address in ["203.0.113.9", "2001:db8::1", "2001:db8:0:1:1:1:1:1", "fe80::1:0:0:2"] {
            assert!(is_address(address), "{address}");
        }
        for odd in [
            "",
            "1.2.3.4/32",
            "01.2.3.4",
            "::1",
            "::ffff:1.2.3.4",
            "2001:DB8::1",
            "2001:db8:0:0::1",
            "fe80::1%eth0",
        ] {
            let columns = QueryColumns::of(Some(odd), Some(odd), Some(odd));
            let kept = serde_json::json!({ "ClientIP": odd, "OptPlatform": odd, "RequestID": odd });
            let expected = QueryColumns { odd_values: Some(kept.to_string()), ..QueryColumns::default() };
            assert_eq!(columns, expected, "{odd:?}");
        }
        for odd in [
            &uuid.to_uppercase()[..],
            &uuid.replace('-', ""),
            &format!("{{{uuid}}}"),
            &uuid.replace('-', "0"),
        ] {
            assert!(!is_uuid(odd), "{odd}");
        }
        assert_eq!(QueryColumns::of(None, None, None), QueryColumns::default());
    }
}
