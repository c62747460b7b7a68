//! The record of one callback: everything that decoding may depend on, as bytes.
//!
//! A version byte, a checksum over all that follows, the length of a JSON head, the head, then the body as it came, which
//! may be no text at all. A later program reads what an earlier one wrote; a record that an earlier program cannot read
//! stays in the spool until a later one runs. A record whose checksum is wrong is damaged: what it says is not what
//! Tencent said, so it is never applied. `docs/formats.md` describes every byte.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::callback::Received;
use crate::model::{Millis, SdkAppId};

/// The first byte of a record. It changes when a reader of the old form would misread the new one; a further field
/// with a default is no such change.
const VERSION: u8 = 2;

/// The version without a checksum.
const VERSION_UNCHECKED: u8 = 1;

/// The first bytes of the SHA-256 over everything behind them: enough against accidents, which is all it is for.
const CHECKSUM_BYTES: usize = 8;

/// The length of the head, little-endian.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Why bytes cannot be read as a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RecordError {
    /// Another version, which a later program may read.
    #[error("a record of the spool has a version that this program does not know")]
    Version,
    /// Not what was written.
    #[error("a record of the spool is damaged")]
    Damaged,
}

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
pub(super) fn encode(received: &Received) -> Result<Vec<u8>, RecordError> {
    let head = RecordHead {
        app: received.app.get(),
        query_command: received.query_command.clone(),
        client_ip: received.client_ip.clone(),
        platform: received.platform.clone(),
        request_id: received.request_id.clone(),
        received_at_ms: received.received_at.get(),
    };
    let head = serde_json::to_vec(&head).map_err(|_| RecordError::Damaged)?;
    let length = u32::try_from(head.len()).map_err(|_| RecordError::Damaged)?;
    let prefix = 1 + CHECKSUM_BYTES;
    let mut bytes = Vec::with_capacity(prefix + LENGTH_BYTES + head.len() + received.body.len());
    bytes.push(VERSION);
    bytes.extend([0; CHECKSUM_BYTES]);
    bytes.extend(length.to_le_bytes());
    bytes.extend(head);
    bytes.extend(&received.body);
    let sum = checksum(&bytes[prefix..]);
    bytes[1..prefix].copy_from_slice(&sum);
    Ok(bytes)
}

/// Decodes a record.
///
/// # Errors
/// Another version, or bytes that are damaged.
pub(super) fn decode(bytes: &[u8]) -> Result<Received, RecordError> {
    let (version, rest) = bytes.split_first().ok_or(RecordError::Damaged)?;
    match *version {
        VERSION => {
            let (sum, rest) = rest.split_first_chunk().ok_or(RecordError::Damaged)?;
            if *sum != checksum(rest) {
                return Err(RecordError::Damaged);
            }
            decode_content(rest)
        }
        VERSION_UNCHECKED => decode_content(rest),
        _ => Err(RecordError::Version),
    }
}

/// What stands behind version and checksum, the same in both versions.
fn decode_content(bytes: &[u8]) -> Result<Received, RecordError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(RecordError::Damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| RecordError::Damaged)?;
    let (head, body) = rest.split_at_checked(length).ok_or(RecordError::Damaged)?;
    let head: RecordHead = serde_json::from_slice(head).map_err(|_| RecordError::Damaged)?;
    Ok(Received {
        app: SdkAppId::parse(&head.app.to_string()).map_err(|_| RecordError::Damaged)?,
        query_command: head.query_command,
        client_ip: head.client_ip,
        platform: head.platform,
        request_id: head.request_id,
        received_at: Millis::new(head.received_at_ms),
        body: body.to_vec(),
    })
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::{CHECKSUM_BYTES, Received, RecordError, decode, encode};
    use crate::model::{Millis, SdkAppId};

    fn received() -> Received {
        Received {
            app: SdkAppId::parse("1400000001").unwrap(),
            query_command: Some("Group.CallbackAfterCreateGroup".into()),
            client_ip: None,
            platform: Some("nul\0 \"quote\" ü".into()),
            request_id: Some(String::new()),
            received_at: Millis::new(-1),
            body: b"\x00\xff no text \x01".to_vec(),
        }
    }

    #[test]
    fn everything_comes_back_whatever_the_body_holds() {
        let bytes = encode(&received()).unwrap();
        assert_eq!(decode(&bytes), Ok(received()));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(RecordError::Damaged), "cut at {end}");
        }
        assert_eq!(decode(&[&[9], &bytes[1..]].concat()), Err(RecordError::Version));
    }

    #[test]
    fn no_flipped_bit_is_taken_for_what_tencent_said() {
        let bytes = encode(&received()).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(decode(&flipped).is_err(), "bit {at}");
        }
    }

    #[test]
    fn a_record_of_the_version_without_a_checksum_is_still_read() {
        let bytes = encode(&received()).unwrap();
        let earlier = [&[1], &bytes[1 + CHECKSUM_BYTES..]].concat();
        assert_eq!(decode(&earlier), Ok(received()));
    }
}
