//! A callback as it was received, as a line of JSON, with what the release made of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::model::{GroupId, Millis, SdkAppId};
use serde::{Deserialize, Serialize};

use super::writer::hex;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GoldenCallback {
    app: i64,
    received_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query_command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forwarded_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Where it is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    pub(super) command: String,
    pub(super) group_id: String,
    pub(super) event_time_ms: Option<i64>,
    pub(super) time_ms: i64,
    pub(super) digest: String,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    /// Its entry is folded into a checkpoint, and is in the ledger no more.
    pub(super) pruned: bool,
}

/// What is kept of a request.
pub(super) fn kept(received: Received) -> Callback {
    match decode(received) {
        Decoded::Kept(callback) => *callback,
        Decoded::OutOfScope(unkept) => panic!("out of scope: {}", unkept.label),
    }
}

impl GoldenCallback {
    pub(super) fn app(&self) -> i64 {
        self.app
    }

    /// What its entry is known by: command, group, event time, time, digest.
    pub(super) fn identity(&self) -> (&str, &str, Option<i64>, i64, &str) {
        (&self.command, &self.group_id, self.event_time_ms, self.time_ms, &self.digest)
    }

    pub(super) fn of(received: &Received, pruned: bool) -> Self {
        let callback = kept(received.clone());
        let text = String::from_utf8(received.body.clone()).ok();
        Self {
            app: received.app.get(),
            received_at_ms: received.received_at.get(),
            query_command: received.query_command.clone(),
            client_ip: received.client_ip.clone(),
            platform: received.platform.clone(),
            request_id: received.request_id.clone(),
            query: received.query.clone(),
            content_type: received.content_type.clone(),
            forwarded_for: received.forwarded_for.clone(),
            body_base64: text.is_none().then(|| STANDARD.encode(&received.body)),
            body: text,
            group_id: callback.group.as_ref().map(GroupId::as_str).unwrap_or_default().to_owned(),
            event_time_ms: callback.event_time.map(Millis::get),
            time_ms: callback.time.get(),
            digest: hex(callback.digest.as_bytes()),
            outcome: callback.reading().as_str().to_owned(),
            reason: callback.reason_text(),
            command: callback.command,
            pruned,
        }
    }

    /// As it was received.
    pub(super) fn received(&self) -> Received {
        let body = self.body_base64.as_ref().map(|text| STANDARD.decode(text).unwrap());
        Received {
            app: SdkAppId::parse(&self.app.to_string()).unwrap(),
            query_command: self.query_command.clone(),
            client_ip: self.client_ip.clone(),
            platform: self.platform.clone(),
            request_id: self.request_id.clone(),
            query: self.query.clone(),
            content_type: self.content_type.clone(),
            forwarded_for: self.forwarded_for.clone(),
            received_at: Millis::new(self.received_at_ms),
            body: body.unwrap_or_else(|| self.body.clone().unwrap().into_bytes()),
        }
    }

    /// A repeat of it, a minute later where it is known by more than its receipt.
    pub(super) fn repeated(&self) -> Callback {
        let mut received = self.received();
        if self.event_time_ms == Some(self.time_ms) || self.request_id.is_some() {
            received.received_at = Millis::new(self.received_at_ms + 60_000);
        }
        kept(received)
    }
}

pub(super) fn lines(callbacks: &[GoldenCallback]) -> String {
    callbacks.iter().map(|callback| serde_json::to_string(callback).unwrap() + "\n").collect()
}

pub(super) fn read(text: &str) -> Vec<GoldenCallback> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}
