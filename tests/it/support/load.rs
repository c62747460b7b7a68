//! Callbacks over raw connections, as a proxy's pool sends them: kept open, no request ever sent twice.
//!
//! A usual client would hide what is looked for here, because it sends a request again where its connection was closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::{OK, signed_query, tls};

/// Nothing here takes nearly as long.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// One answer, as text.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawAnswer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn says(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(header))
    }
}

/// Reads one answer with a length.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<RawAnswer> {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                });
                if body.len() >= length.unwrap_or_default() {
                    return Ok(RawAnswer { head: head.to_owned(), body: body.to_owned() });
                }
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {text:?}")));
            }
        }
    };
    tokio::time::timeout(ANSWER_WAIT_MAX, read).await.map_err(io::Error::other)?
}

/// A signed callback that makes a group, as the bytes of a request.
pub(crate) fn create_request(group: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"CallbackCommand":"Group.CallbackAfterCreateGroup","GroupId":"{group}","Type":"Public","Name":"n","Owner_Account":"ana","MemberList":[],"EventTime":1767225600345}}"#
    );
    let query = signed_query();
    format!(
        "POST /callback?{query}&CallbackCommand=Group.CallbackAfterCreateGroup HTTP/1.1\r\nHost: mirror\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection to a listener, with TLS or without.
pub(crate) type Connection = Either<TcpStream, TlsStream<TcpStream>>;

/// Where callbacks are sent, and the client of TLS where that is spoken there.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) tls: Option<TlsConnector>,
}

impl Target {
    pub(crate) fn plain(address: &str) -> Self {
        Self { address: address.to_owned(), tls: None }
    }

    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        match &self.tls {
            None => Ok(Either::Left(TcpStream::connect(&self.address).await?)),
            Some(connector) => Ok(Either::Right(tls::connect(&self.address, connector).await?)),
        }
    }
}

/// A pool of connections. Each sends one callback after the other.
pub(crate) struct Load {
    stop: CancellationToken,
    senders: JoinSet<Vec<String>>,
    sent: Arc<AtomicU64>,
}

/// What came of a load.
pub(crate) struct Sent {
    pub(crate) callbacks: u64,
    /// One text per callback that was not answered with OK.
    pub(crate) lost: Vec<String>,
}

impl Load {
    /// Sends groups whose ids begin with `name`, each connection with this pause between its callbacks.
    pub(crate) fn start(target: &Target, name: &'static str, connections: usize, pause: Duration) -> Self {
        let (stop, sent) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let mut senders = JoinSet::new();
        for _ in 0..connections {
            let (target, stop, sent) = (target.clone(), stop.clone(), Arc::clone(&sent));
            senders.spawn(async move {
                let (mut lost, mut connection) = (Vec::new(), None);
                while !stop.is_cancelled() {
                    let group = format!("{name}-{}", sent.fetch_add(1, Ordering::Relaxed));
                    if let Err(error) = exchange(&target, &mut connection, &group).await {
                        lost.push(format!("{group}: {error}"));
                        connection = None;
                    }
                    tokio::time::sleep(pause).await;
                }
                lost
            });
        }
        Self { stop, senders, sent }
    }

    /// Bursts of callbacks with these pauses between them, in seconds; the pauses are what is tested.
    pub(crate) async fn with_bursts(
        target: &Target,
        name: &'static str,
        connections: usize,
        burst: u64,
        pauses: &[f64],
    ) -> Sent {
        let mut sum = Sent { callbacks: 0, lost: Vec::new() };
        let mut connections: Vec<_> = (0..connections).map(|_| None).collect();
        for pause in pauses.iter().copied().map(Some).chain([None]) {
            let at_once = u64::try_from(connections.len()).unwrap();
            for round in 0..burst / at_once {
                let begin = sum.callbacks;
                let exchanges = connections.iter_mut().zip(begin..).map(async |(connection, number)| {
                    let group = format!("{name}-{number}");
                    exchange(target, connection, &group).await.map_err(|error| format!("{group}: {error}"))
                });
                let results = futures_util::future::join_all(exchanges).await;
                sum.lost.extend(
                    results
                        .into_iter()
                        .filter_map(Result::err)
                        .map(|error| format!("{round}, {pause:?}: {error}")),
                );
                sum.callbacks += at_once;
            }
            if let Some(pause) = pause {
                // The pool behind the proxy is what is tested, not the connections in front of it.
                connections.fill_with(|| None);
                tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            }
        }
        sum
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until that many more have been sent.
    pub(crate) async fn pass(&self, callbacks: u64) {
        let until = self.sent() + callbacks;
        assert!(super::eventually(async || self.sent() >= until).await, "the load stands still");
    }

    /// Ends the load.
    pub(crate) async fn finish(mut self) -> Sent {
        self.stop.cancel();
        let mut lost = Vec::new();
        while let Some(of_one) = self.senders.join_next().await {
            lost.extend(of_one.unwrap());
        }
        Sent { callbacks: self.sent.load(Ordering::Relaxed), lost }
    }
}

/// Sends one callback on a kept connection, or on a new one where there is none.
async fn exchange(target: &Target, connection: &mut Option<Connection>, group: &str) -> io::Result<()> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => target.connect().await?,
    };
    stream.write_all(&create_request(group)).await?;
    let answer = read_answer(&mut stream).await?;
    if answer.status() != 200 || answer.body != OK {
        return Err(io::Error::other(format!("{answer:?}")));
    }
    if !answer.says("connection: close") {
        *connection = Some(stream);
    }
    Ok(())
}
