//! The TLS handshake of one connection: bytes of a socket → a stream of plain bytes, or why there is none.
//!
//! A failed handshake is a callback that was not taken, and its sender learns a few bytes of an alert at most. So each is
//! classified by its cause here: a certificate that the caller refuses, a version that is too old, a caller without a
//! certificate, plain HTTP. The last is answered in plain HTTP, because that is what its sender can read.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{Error, PeerIncompatible};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::stream::{TrackedStream, WireStream};
use super::tls::TlsListener;
use crate::refusals::{RefusalCause, RefusalLog};

/// What plain HTTP is answered with.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 60\r\nConnection: close\r\n\r\nThis port speaks TLS: the address should begin with https://";

/// How much of a cause a log line shows.
const SEEN_CHARS_MAX: usize = 120;

/// At most one log line in this time about a listener whose requests are not counted.
const LINE_PERIOD: Duration = Duration::from_secs(60);

/// The stream behind the handshake; none where there is none, with its cause noted, unless the peer closed before it sent
/// a byte, as a check of the port does.
pub(super) async fn shake_hands(
    stream: TcpStream,
    tls: &TlsListener,
    activity: &Arc<Activity>,
    faults: &HandshakeFaults,
) -> Option<TlsStream<WireStream>> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return None,
        Ok(_) => activity.handshake_begins(),
    }
    let wire = WireStream::new(stream, Arc::clone(activity));
    // No record of TLS begins with a letter, and every request of HTTP/1 does.
    if first[0].is_ascii_alphabetic() {
        faults.note(RefusalCause::PlainHttp, "the first byte is a letter".to_owned());
        answer_plain(wire, activity).await;
        return None;
    }
    match TlsAcceptor::from(tls.config()).accept(wire).await {
        Ok(stream) => {
            activity.handshake_ends();
            Some(stream)
        }
        Err(error) => {
            let (cause, seen) = classified(&error);
            faults.note(cause, seen);
            None
        }
    }
}

/// An answer before the handshake, so that the sender reads a reason. Whether it arrives is the sender's matter.
async fn answer_plain(wire: WireStream, activity: &Arc<Activity>) {
    let mut stream = TrackedStream::new(wire, Arc::clone(activity));
    if stream.write_all(PLAIN_ANSWER).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// The cause of a failed handshake, and a text of the TLS library, never a piece of what was sent.
fn classified(error: &io::Error) -> (RefusalCause, String) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let cause = match tls {
        Some(Error::AlertReceived(_)) => RefusalCause::TlsRefused,
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
            RefusalCause::ClientCertificate
        }
        Some(Error::NoApplicationProtocol) => RefusalCause::TlsUnshared,
        Some(Error::PeerIncompatible(missing)) => match missing {
            // The extension came with TLS 1.2, and is looked at before the version.
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired => RefusalCause::TlsVersion,
            _ => RefusalCause::TlsUnshared,
        },
        None | Some(_) => RefusalCause::Handshake,
    };
    let text = tls.map_or_else(|| error.kind().to_string(), ToString::to_string);
    (cause, text.chars().take(SEEN_CHARS_MAX).collect())
}

/// Failed handshakes of one listener: counted by cause, and reported where its requests are.
#[derive(Debug)]
pub(super) struct HandshakeFaults {
    listener: &'static str,
    refusals: Option<RefusalLog>,
    /// Where there is no log of refusals: the last line, and how many came since.
    line: Mutex<(Option<Instant>, u64)>,
}

/// The causes that a handshake can fail by.
const CAUSES: [RefusalCause; 7] = [
    RefusalCause::PlainHttp,
    RefusalCause::TlsVersion,
    RefusalCause::TlsUnshared,
    RefusalCause::TlsRefused,
    RefusalCause::ClientCertificate,
    RefusalCause::SlowHandshake,
    RefusalCause::Handshake,
];

impl HandshakeFaults {
    pub(super) fn new(listener: &'static str, refusals: Option<RefusalLog>) -> Self {
        let faults = Self { listener, refusals, line: Mutex::default() };
        for cause in CAUSES {
            faults.count(cause, 0);
        }
        faults
    }

    fn count(&self, cause: RefusalCause, times: u64) {
        assert!(CAUSES.contains(&cause), "{cause:?} is counted from the start");
        let (listener, cause) = (self.listener, cause.label());
        metrics::counter!("group_mirror_handshake_failures_total", "listener" => listener, "cause" => cause)
            .increment(times);
    }

    /// Counts one.
    pub(super) fn note(&self, cause: RefusalCause, seen: String) {
        self.count(cause, 1);
        if let Some(refusals) = &self.refusals {
            refusals.note(None, cause, Some(seen));
            return;
        }
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.1 += 1;
        if line.0.is_some_and(|at| at.elapsed() < LINE_PERIOD) {
            return;
        }
        let count = std::mem::take(&mut line.1);
        line.0 = Some(Instant::now());
        drop(line);
        let handshakes = if count == 1 { "handshake" } else { "handshakes" };
        tracing::warn!(
            listener = self.listener,
            handshake.cause = cause.label(),
            "{count} TLS {handshakes} of the listener {} failed, the last one: {} ({seen})",
            self.listener,
            cause.remedy()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::PLAIN_ANSWER;

    #[test]
    fn the_plain_answer_is_as_long_as_it_says() {
        let answer = std::str::from_utf8(PLAIN_ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
