//! The record of one callback: everything that decoding may depend on, as bytes.
//!
//! A version byte, a checksum over all that follows, a mark, the lengths of a JSON head and of the body, the head, then the
//! body as it came, which may be no text at all. So a record is a frame that can be found in any bytes ([`find`]): from a
//! file that the store cannot read any more, `salvage` takes what is whole. A later program reads what an earlier one wrote;
//! a record that an earlier program cannot read stays in the spool until a later one runs. A record whose checksum is wrong
//! is damaged: what it says is not what Tencent said, so it is never applied. `docs/formats.md` describes every byte.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::callback::{BODY_BYTES_MAX, Received};
use crate::model::{Millis, SdkAppId};

/// The first byte of a record. It changes when a reader of the old form would misread the new one; a further field
/// with a default is no such change.
pub(super) const VERSION: u8 = 3;

/// The version without a mark and the length of the body.
const VERSION_UNFRAMED: u8 = 2;

/// The version without a checksum.
const VERSION_UNCHECKED: u8 = 1;

/// What a record is found by where nothing else says where one is. No text has the first byte.
const FRAME_MARK: [u8; 4] = *b"\xf5GMR";

/// The first bytes of the SHA-256 over everything behind them: enough against accidents, which is all it is for.
const CHECKSUM_BYTES: usize = 8;

/// A length, little-endian.
const LENGTH_BYTES: usize = size_of::<u32>();

/// What stands before the mark.
const PREFIX_BYTES: usize = 1 + CHECKSUM_BYTES;

/// What stands before the head.
const HEADER_BYTES: usize = PREFIX_BYTES + FRAME_MARK.len() + 2 * LENGTH_BYTES;

/// The longest head that is looked for in a damaged file. A head holds a query, which is at most 64 KiB, some of its values
/// once more, and a content type of a few KiB, and JSON writes a byte in at most six.
const HEAD_BYTES_MAX: usize = 6 * 2 * 64 * 1024;

/// The longest record that is looked for.
pub(super) const RECORD_BYTES_MAX: usize = HEADER_BYTES + HEAD_BYTES_MAX + BODY_BYTES_MAX;

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
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    forwarded_for: Option<String>,
    received_at_ms: i64,
}

/// What of a head every version has.
#[derive(Debug, Deserialize)]
struct RecordPlace {
    app: i64,
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
        query: received.query.clone(),
        content_type: received.content_type.clone(),
        forwarded_for: received.forwarded_for.clone(),
        received_at_ms: received.received_at.get(),
    };
    let head = serde_json::to_vec(&head).map_err(|_| RecordError::Damaged)?;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map(u32::to_le_bytes);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + head.len() + received.body.len());
    bytes.push(VERSION);
    bytes.extend([0; CHECKSUM_BYTES]);
    bytes.extend(FRAME_MARK);
    bytes.extend(length(&head).map_err(|_| RecordError::Damaged)?);
    bytes.extend(length(&received.body).map_err(|_| RecordError::Damaged)?);
    assert_eq!(bytes.len(), HEADER_BYTES, "the head begins behind the header");
    bytes.extend(head);
    bytes.extend(&received.body);
    let sum = checksum(&bytes[PREFIX_BYTES..]);
    bytes[1..PREFIX_BYTES].copy_from_slice(&sum);
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
            let (mark, rest) = checked(rest)?.split_first_chunk().ok_or(RecordError::Damaged)?;
            let (head, rest) = length_of(rest)?;
            let (body, rest) = length_of(rest)?;
            if *mark != FRAME_MARK || rest.len() != head + body {
                return Err(RecordError::Damaged);
            }
            let (head, body) = rest.split_at(head);
            decode_parts(head, body)
        }
        VERSION_UNFRAMED => decode_content(checked(rest)?),
        VERSION_UNCHECKED => decode_content(rest),
        _ => Err(RecordError::Version),
    }
}

/// The app of a record, whether or not its checksum is right; none where its head cannot be read.
pub(super) fn app(bytes: &[u8]) -> Option<SdkAppId> {
    let (version, rest) = bytes.split_first()?;
    let before = match *version {
        VERSION_UNCHECKED => 0,
        VERSION_UNFRAMED => CHECKSUM_BYTES,
        version if version >= VERSION => CHECKSUM_BYTES + FRAME_MARK.len(),
        _ => return None,
    };
    let (length, rest) = length_of(rest.get(before..)?).ok()?;
    let rest = if *version >= VERSION { length_of(rest).ok()?.1 } else { rest };
    Some(place(rest.get(..length)?)?.0)
}

/// App and receipt of a head, which every version has.
fn place(head: &[u8]) -> Option<(SdkAppId, Millis)> {
    let RecordPlace { app, received_at_ms } = serde_json::from_slice(head).ok()?;
    Some((SdkAppId::parse(&app.to_string()).ok()?, Millis::new(received_at_ms)))
}

/// What stands behind the checksum, if that is right.
fn checked(bytes: &[u8]) -> Result<&[u8], RecordError> {
    let (sum, rest) = bytes.split_first_chunk().ok_or(RecordError::Damaged)?;
    if *sum == checksum(rest) { Ok(rest) } else { Err(RecordError::Damaged) }
}

/// A length, and what stands behind it.
fn length_of(bytes: &[u8]) -> Result<(usize, &[u8]), RecordError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(RecordError::Damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| RecordError::Damaged)?;
    Ok((length, rest))
}

/// What stands behind version and checksum in the versions before the frame.
fn decode_content(bytes: &[u8]) -> Result<Received, RecordError> {
    let (length, rest) = length_of(bytes)?;
    let (head, body) = rest.split_at_checked(length).ok_or(RecordError::Damaged)?;
    decode_parts(head, body)
}

fn decode_parts(head: &[u8], body: &[u8]) -> Result<Received, RecordError> {
    let head: RecordHead = serde_json::from_slice(head).map_err(|_| RecordError::Damaged)?;
    Ok(Received {
        app: SdkAppId::parse(&head.app.to_string()).map_err(|_| RecordError::Damaged)?,
        query_command: head.query_command,
        client_ip: head.client_ip,
        platform: head.platform,
        request_id: head.request_id,
        query: head.query,
        content_type: head.content_type,
        forwarded_for: head.forwarded_for,
        received_at: Millis::new(head.received_at_ms),
        body: body.to_vec(),
    })
}

/// Where a record may begin in any bytes: the first place of a frame, whether or not it is whole. Later versions keep the
/// frame.
pub(super) fn find(bytes: &[u8]) -> Option<usize> {
    let begins = bytes.get(PREFIX_BYTES..)?.windows(FRAME_MARK.len());
    begins.zip(0..).find_map(|(window, at)| (window == FRAME_MARK && bytes[at] >= VERSION).then_some(at))
}

/// The record at the begin of any bytes, if a whole one is there, with its app and when it was received. One of a later
/// version is proved by its checksum and taken as it is, for the program that can read it.
pub(super) fn whole(bytes: &[u8]) -> Option<(&[u8], SdkAppId, Millis)> {
    let (head, rest) = length_of(bytes.get(PREFIX_BYTES + FRAME_MARK.len()..)?).ok()?;
    let (body, _) = length_of(rest).ok()?;
    if head > HEAD_BYTES_MAX || body > BODY_BYTES_MAX {
        return None;
    }
    let record = bytes.get(..HEADER_BYTES + head + body)?;
    assert!(record.len() <= RECORD_BYTES_MAX, "a record keeps its limit");
    if record[0] > VERSION && record[PREFIX_BYTES..].starts_with(&FRAME_MARK) {
        checked(&record[1..]).ok()?;
        let (app, received_at) = place(&record[HEADER_BYTES..][..head])?;
        return Some((record, app, received_at));
    }
    decode(record).ok().map(|received| (record, received.app, received.received_at))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::{
        FRAME_MARK, HEADER_BYTES, LENGTH_BYTES, PREFIX_BYTES, Received, RecordError, app, checksum, decode,
        encode, find, whole,
    };
    use crate::model::{Millis, SdkAppId};

    fn received() -> Received {
        Received {
            app: SdkAppId::parse("1400000001").unwrap(),
            query_command: Some("Group.CallbackAfterCreateGroup".into()),
            client_ip: None,
            platform: Some("nul\0 \"quote\" ü".into()),
            request_id: Some(String::new()),
            query: Some("SdkAppid=1400000001&a=%41+b&a=%e4&&=?/".into()),
            content_type: Some("text/plain; charset=\"\u{e4}\"".into()),
            forwarded_for: Some("198.51.100.1, 203.0.113.9".into()),
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
        for version in [3, 9] {
            assert_eq!(app(&[&[version], &bytes[1..]].concat()), Some(received().app));
        }
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
    fn records_of_the_versions_without_a_checksum_and_without_a_frame_are_still_read() {
        let bytes = encode(&received()).unwrap();
        let head_length = &bytes[PREFIX_BYTES + FRAME_MARK.len()..][..LENGTH_BYTES];
        let content = [head_length, &bytes[HEADER_BYTES..]].concat();
        for old in [[&[1], &content[..]].concat(), [&[2], &checksum(&content)[..], &content].concat()] {
            assert_eq!(decode(&old), Ok(received()));
            assert_eq!(app(&old), Some(received().app));
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_found_as_it_is_and_one_whose_checksum_is_wrong_is_not() {
        let mut later = encode(&received()).unwrap();
        later[0] += 1;
        assert_eq!(find(&later), Some(0));
        assert_eq!(whole(&later), Some((&later[..], received().app, received().received_at)));
        for at in 1..later.len() {
            let mut flipped = later.clone();
            flipped[at] ^= 1;
            assert_eq!(whole(&flipped), None, "byte {at}");
        }
    }

    #[test]
    fn a_whole_record_is_found_among_any_bytes_and_one_in_part_is_not() {
        let bytes = encode(&received()).unwrap();
        for before in [&b""[..], b"\xf5GM", &bytes[..bytes.len() - 1], &bytes[1..]] {
            let all = [before, &bytes, b"behind"].concat();
            let mut at = 0;
            while whole(&all[at..]).is_none() {
                at += 1 + find(&all[at + 1..]).unwrap();
            }
            assert_eq!(
                whole(&all[at..]),
                Some((&bytes[..], received().app, received().received_at)),
                "{before:?}"
            );
        }
        assert_eq!(find(&bytes[1..]), None);
    }
}
