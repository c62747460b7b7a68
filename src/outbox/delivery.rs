//! One callback on its way to the backend, and the request that an attempt sends.
//!
//! The first attempt, soon after receipt, sends what Tencent sent. A later one says so in a header and is signed anew, because
//! a careful backend refuses a signature that is a minute old; the time of the original request stands in a header of its
//! own.

use std::fmt::Write as _;
use std::sync::Arc;

use hyper::body::Bytes;

use crate::callback::signature::Token;
use crate::callback::{Callback, request_time, signed_anew, without_signature};
use crate::model::{Digest, GroupId, Millis};
use crate::relay::RelayRequest;
use crate::store::outbox::{EntryKey, KeptRequest, WaitingRow};

use super::pace::is_refusal;

/// The age at which a callback that was not tried yet is signed anew, in milliseconds: half of what a backend allows that
/// follows Tencent's advice.
const ORIGINAL_MAX_MS: i64 = 30_000;

/// A short name of an entry, for sets in memory.
pub(super) type Fingerprint = u128;

/// The name of an entry with this key.
pub(super) fn fingerprint(key: &EntryKey) -> Fingerprint {
    let (app, time) = (key.sdk_app_id.to_be_bytes(), key.time_ms.to_be_bytes());
    let digest = Digest::of_parts(&[&app, key.group_id.as_bytes(), &time, &key.digest]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}

/// The key of the entry that a callback is, or will be.
pub(super) fn key_of(callback: &Callback) -> EntryKey {
    EntryKey {
        sdk_app_id: callback.received.app.get(),
        group_id: callback.group.as_ref().map_or("", GroupId::as_str).to_owned(),
        time_ms: callback.time.get(),
        digest: callback.digest.as_bytes().to_vec(),
    }
}

/// What is delivered in order with a callback: its group, or it alone. The twin of the column `order_key`.
pub(super) fn order_key_of(callback: &Callback) -> Arc<str> {
    let alone = || {
        callback.digest.as_bytes().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a text cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    callback.group.as_ref().map_or_else(alone, |group| group.as_str().to_owned()).into()
}

/// Where the request of a delivery comes from.
#[derive(Debug, Clone)]
pub(super) enum DeliveryRequest {
    /// From memory, as it was received.
    Received(Arc<Callback>),
    /// From the ledger, without its signature.
    Kept { query: String, content_type: Option<String>, body: Bytes },
}

/// A callback to deliver.
#[derive(Debug, Clone)]
pub(super) struct OutboxDelivery {
    pub(super) key: EntryKey,
    pub(super) name: Fingerprint,
    pub(super) received_at: Millis,
    request_time: Option<i64>,
    request: DeliveryRequest,
    /// How many attempts have failed.
    pub(super) attempts: u32,
    /// The last one was refused.
    pub(super) was_refused: bool,
    /// Queued by hand.
    pub(super) again: bool,
}

impl OutboxDelivery {
    /// Of a callback that was just received.
    pub(super) fn received(callback: Arc<Callback>) -> Self {
        let key = key_of(&callback);
        Self {
            name: fingerprint(&key),
            key,
            received_at: callback.received.received_at,
            request_time: callback.received.query.as_deref().and_then(request_time),
            request: DeliveryRequest::Received(callback),
            attempts: 0,
            was_refused: false,
            again: false,
        }
    }

    /// Of an entry that waits, with its request.
    pub(super) fn kept(row: WaitingRow, request: KeptRequest) -> Self {
        let query = request.query.clone().unwrap_or_else(|| rebuilt_query(&request));
        let KeptRequest { content_type, body, .. } = request;
        Self {
            name: fingerprint(&row.key),
            key: row.key,
            received_at: Millis::new(row.received_ms),
            request_time: row.request_time,
            request: DeliveryRequest::Kept { query, content_type, body: body.into() },
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            was_refused: row.failure.as_deref().is_some_and(is_refusal),
            again: row.again,
        }
    }

    /// How many bytes it holds in memory, about.
    pub(super) fn bytes(&self) -> usize {
        const FIXED: usize = 512;
        let (query, body) = match &self.request {
            DeliveryRequest::Received(callback) => {
                (callback.received.query.as_ref().map_or(0, String::len), callback.received.body.len())
            }
            DeliveryRequest::Kept { query, body, .. } => (query.len(), body.len()),
        };
        FIXED + query + body
    }

    /// Whether an attempt now is one that Tencent itself could have made.
    pub(super) fn is_first(&self, now: Millis) -> bool {
        let age = now.get().saturating_sub(self.received_at.get());
        self.attempts == 0 && age <= ORIGINAL_MAX_MS && matches!(self.request, DeliveryRequest::Received(_))
    }

    fn forwarded_for(&self) -> Option<&str> {
        match &self.request {
            DeliveryRequest::Received(callback) => callback.received.forwarded_for.as_deref(),
            DeliveryRequest::Kept { .. } => None,
        }
    }

    /// The request of an attempt at this moment.
    pub(super) fn request(&self, token: Option<&Token>, now: Millis) -> RelayRequest {
        let (query, content_type, body) = match &self.request {
            DeliveryRequest::Received(callback) => {
                let received = &callback.received;
                let body = Bytes::copy_from_slice(&received.body);
                (received.query.clone(), received.content_type.as_deref(), body)
            }
            DeliveryRequest::Kept { query, content_type, body } => {
                (Some(query.clone()), content_type.as_deref(), body.clone())
            }
        };
        let content_type = content_type.map(bytes_of_header);
        if self.is_first(now) {
            let request = RelayRequest::kept(query, content_type.as_deref(), body);
            return match self.forwarded_for() {
                Some(list) => request.forwarded_for(list),
                None => request,
            };
        }
        let kept = query.as_deref().map(without_signature).unwrap_or_default();
        let signed = signed_anew(&kept, token, now.get() / 1000);
        let kind = if self.again { "again" } else { "late" };
        RelayRequest::kept(Some(signed), content_type.as_deref(), body)
            .noted(&format!("{kind}; attempt={}", self.attempts + 1))
            .originally_at(self.request_time.unwrap_or(self.received_at.get() / 1000))
    }
}

/// The value of a header whose bytes stand as characters of their number.
fn bytes_of_header(text: &str) -> Vec<u8> {
    text.chars().filter_map(|mark| u8::try_from(mark).ok()).collect()
}

/// The query of an entry from before the app had a relay, as far as the ledger has its parts.
fn rebuilt_query(request: &KeptRequest) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("SdkAppid", &request.key.sdk_app_id.to_string());
    query.append_pair("CallbackCommand", request.query_command.as_deref().unwrap_or(&request.command));
    query.append_pair("contenttype", "json");
    for (name, value) in [
        ("ClientIP", &request.client_ip),
        ("OptPlatform", &request.platform),
        ("RequestID", &request.request_id),
    ] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}
