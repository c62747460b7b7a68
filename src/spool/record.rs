//! The record of one callback: everything that decoding may depend on, as bytes.
//!
//! A version byte, the length of a JSON head, the head, then the body as it came, which may be no text at all. A later
//! program reads what an earlier one wrote; a record that an earlier program cannot read stays in the spool until a
//! later one runs. `docs/formats.md` describes every byte.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::callback::Received;
use crate::model::{Millis, SdkAppId};

/// The first byte of a record. It changes when a reader of the old form would misread the new one; a further field
/// with a default is no such change.
const VERSION: u8 = 1;

/// Version and length, before the head.
const PREFIX_BYTES: usize = 1 + size_of::<u32>();

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a record of the spool cannot be read by this program")]
pub(super) struct Unreadable;

#[derive(Debug, Serialize, Deserialize)]
struct RecordHead {
    app: i64,
    query_command: Option<String>,
    client_ip: Option<String>,
    platform: Option<String>,
    request_id: Option<String>,
    received_at_ms: i64,
}

/// Encodes a request.
///
/// # Errors
/// None in practice: a head has no value that JSON lacks.
pub(super) fn encode(received: &Received) -> Result<Vec<u8>, Unreadable> {
    let head = RecordHead {
        app: received.app.get(),
        query_command: received.query_command.clone(),
        client_ip: received.client_ip.clone(),
        platform: received.platform.clone(),
        request_id: received.request_id.clone(),
        received_at_ms: received.received_at.get(),
    };
    let head = serde_json::to_vec(&head).map_err(|_| Unreadable)?;
    let length = u32::try_from(head.len()).map_err(|_| Unreadable)?;
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + head.len() + received.body.len());
    bytes.push(VERSION);
    bytes.extend(length.to_le_bytes());
    bytes.extend(head);
    bytes.extend(&received.body);
    Ok(bytes)
}

/// Decodes a record.
///
/// # Errors
/// Another version, or bytes that are damaged.
pub(super) fn decode(bytes: &[u8]) -> Result<Received, Unreadable> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX_BYTES).ok_or(Unreadable)?;
    let length = prefix[1..].try_into().map(u32::from_le_bytes).map_err(|_| Unreadable)?;
    let length = usize::try_from(length).map_err(|_| Unreadable)?;
    let (head, body) = rest.split_at_checked(length).filter(|_| prefix[0] == VERSION).ok_or(Unreadable)?;
    let head: RecordHead = serde_json::from_slice(head).map_err(|_| Unreadable)?;
    Ok(Received {
        app: SdkAppId::parse(&head.app.to_string()).map_err(|_| Unreadable)?,
        query_command: head.query_command,
        client_ip: head.client_ip,
        platform: head.platform,
        request_id: head.request_id,
        received_at: Millis::new(head.received_at_ms),
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Received, decode, encode};
    use crate::model::{Millis, SdkAppId};

    #[test]
    fn everything_comes_back_whatever_the_body_holds() {
        let received = Received {
            app: SdkAppId::parse("1400000001").unwrap(),
            query_command: Some("Group.CallbackAfterCreateGroup".into()),
            client_ip: None,
            platform: Some("nul\0 \"quote\" ü".into()),
            request_id: Some(String::new()),
            received_at: Millis::new(-1),
            body: b"\x00\xff no text \x01".to_vec(),
        };
        let bytes = encode(&received).unwrap();
        assert_eq!(decode(&bytes), Ok(received));
        for end in 0..bytes.len() - 14 {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(decode(&[&[9], &bytes[1..]].concat()).is_err(), "another version");
    }
}
