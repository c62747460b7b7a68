//! Callbacks of an app whose backend stands behind the mirror: passed on, and answered by it where its answer decides.
//!
//! Nothing durable happens here. What the mirror keeps is made durable beside this, by the writer.

use std::net::SocketAddr;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;

use super::answer::Answer;
use crate::callback::{Answering, answering};
use crate::model::SdkAppId;
use crate::relay::{AppRelay, BackendVerdict, RelayRequest, Relays};

/// One callback on its way to its backend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing<'a> {
    relay: &'a AppRelay,
    head: &'a Parts,
    begun: Instant,
}

impl<'a> Passing<'a> {
    /// None: the app has no backend.
    pub(super) fn new(relays: &'a Relays, app: SdkAppId, head: &'a Parts, begun: Instant) -> Option<Self> {
        relays.of(app).map(|relay| Self { relay, head, begun })
    }

    /// A callback that is not kept: the backend's answer where the command waits for one, else OK at once.
    pub(super) async fn unkept(self, command: &str, body: Bytes) -> Answer {
        match answering(command) {
            Answering::ByBackend => self.verdict(command, body).await,
            Answering::AtOnce | Answering::WhenDurable => {
                self.notify(body);
                Answer::Done(String::new())
            }
        }
    }

    /// The backend's answer, or the fallback of the command.
    pub(super) async fn verdict(self, command: &str, body: Bytes) -> Answer {
        match self.relay.verdict(self.request(body), command, self.begun).await {
            BackendVerdict::Answer(answer) => Answer::Relayed(answer),
            BackendVerdict::Fallback(fallback) => Answer::Fallback(fallback),
        }
    }

    /// Passes the callback on without waiting.
    pub(super) fn notify(self, body: Bytes) {
        self.relay.pass_on(self.request(body));
    }

    fn request(self, body: Bytes) -> RelayRequest {
        let sender = self.head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        RelayRequest::received(self.head, sender, body)
    }
}
