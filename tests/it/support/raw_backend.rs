//! A backend behind the mirror: records requests as the bytes that came, and behaves as the test wants; and a sender that
//! writes requests byte by byte. No HTTP library stands between a test and the wire.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a backend does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Conduct {
    /// Writes these bytes, and keeps the connection.
    Answer(Vec<u8>),
    /// Writes these bytes, and closes the connection.
    AnswerAndClose(Vec<u8>),
    /// Sends the body back: with 200 where it is JSON, else with 403; in chunks where its length is odd.
    Echo,
    /// Never answers.
    Silent,
    /// Resets the connection.
    Reset,
    /// Writes a head, then a byte of the body now and then, without end.
    Trickle,
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} stands twice: {:?}", self.headers);
        Some(value)
    }
}

#[derive(Debug)]
struct Shared {
    conduct: Mutex<Conduct>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

/// A running backend; dropping it closes its port and its connections.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Backend {
    pub(crate) fn start(conduct: Conduct) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), conduct)
    }

    /// On a port that was another's before.
    pub(crate) fn start_at(address: SocketAddr, conduct: Conduct) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let shared = Arc::new(Shared {
            conduct: Mutex::new(conduct),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let address = listener.local_addr().unwrap();
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            Arc::clone(&shared),
            stop.clone(),
        )));
        Self { address, shared, stop, tasks }
    }

    /// Closes the port and every connection, and waits until they are closed.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn behaves(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap() = conduct;
    }

    /// What has come until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn seen_count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many connections were made until now.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let serving = serve(stream, Arc::clone(&shared));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut bytes = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut bytes).await {
        let body = seen.body.clone();
        shared.seen.lock().unwrap().push(seen);
        let conduct = shared.conduct.lock().unwrap().clone();
        match conduct {
            Conduct::Answer(answer) => stream.write_all(&answer).await.unwrap_or_default(),
            Conduct::AnswerAndClose(answer) => return stream.write_all(&answer).await.unwrap_or_default(),
            Conduct::Echo => stream.write_all(&echo(&body)).await.unwrap_or_default(),
            Conduct::Silent => std::future::pending().await,
            Conduct::Reset => return stream.set_zero_linger().unwrap(),
            Conduct::Trickle => trickle(&mut stream).await,
        }
    }
}

async fn trickle(stream: &mut TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{";
    let mut open = stream.write_all(head).await.is_ok();
    while open {
        tokio::time::sleep(Duration::from_millis(50)).await;
        open = stream.write_all(b" ").await.is_ok();
    }
}

fn echo(body: &[u8]) -> Vec<u8> {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let status = if is_json { "200 OK" } else { "403 Forbidden" };
    if body.len().is_multiple_of(2) {
        return answer(status, "Content-Type: text/odd; a=\"b\"\r\n", body);
    }
    let mut bytes = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(7_777) {
        bytes.extend(format!("{:x};odd=1\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// The bytes of an answer; each line of `headers` ends with CR LF.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The answer that lets every action pass.
pub(crate) fn allowed() -> Conduct {
    let body = br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"asked"}"#;
    Conduct::Answer(answer("200 OK", "Content-Type: application/json\r\n", body))
}

/// A message, head and body, off the front of what a connection brings; none at its end.
async fn read_message(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let whole = end + 4 + length.unwrap_or_default();
            if bytes.len() >= whole {
                let body = bytes[end + 4..whole].to_vec();
                bytes.drain(..whole);
                return Some((head, body));
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Seen> {
    let (head, body) = read_message(stream, bytes).await?;
    let (line, headers) = parted(&head);
    Some(Seen { line, headers, body })
}

fn parted(head: &str) -> (String, Vec<(String, String)>) {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    (line, lines.map(header).collect())
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One kept connection to a mirror.
pub(crate) struct Sender {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Sender {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), bytes: Vec::new() }
    }

    /// Posts a body to a target; each line of `headers` ends with CR LF.
    pub(crate) async fn post(&mut self, target: &str, headers: &str, body: &[u8]) -> Got {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: mirror.example\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await.unwrap();
        self.stream.write_all(body).await.unwrap();
        loop {
            let (head, body) = read_message(&mut self.stream, &mut self.bytes).await.unwrap();
            let (line, headers) = parted(&head);
            let status = line.split(' ').nth(1).unwrap().parse().unwrap();
            if status >= 200 {
                return Got { status, headers, body };
            }
        }
    }
}
