//! A backend behind the mirror: it records every request byte for byte, and answers as the test wants.
//!
//! Raw sockets, so that nothing is repaired on the way. A request counts as taken when its answer of success was written.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With success.
    Works,
    /// After a pause.
    Slow(Duration),
    /// Not at all: connections are refused, and open ones end.
    Away,
    /// It reads a request and resets the connection.
    Resets,
    /// Bytes that are no HTTP.
    Garbage,
    /// With a status and a body.
    Answers(u16, &'static str),
    /// The same for one group; others get success.
    OfGroup(String, u16, &'static str),
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Answered with success.
    pub(crate) taken: bool,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The group and the name in the body, where it has both.
    pub(crate) fn said(&self) -> Option<(String, String)> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some((body["GroupId"].as_str()?.to_owned(), body["Name"].as_str()?.to_owned()))
    }

    pub(crate) fn is_late(&self) -> bool {
        self.header("x-group-mirror-delivery").is_some_and(|text| text.starts_with("late; attempt="))
    }
}

#[derive(Debug, Default)]
struct Records {
    all: Vec<Recorded>,
    in_flight: HashMap<String, u32>,
    /// Groups of which two requests were open at the same time.
    overlaps: Vec<String>,
}

/// The backend.
pub(crate) struct Backend {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    records: Arc<Mutex<Records>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

const SUCCESS: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

impl Backend {
    pub(crate) fn start() -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            manner: watch::Sender::new(Manner::Works),
            records: Arc::default(),
            accepting: Mutex::default(),
        };
        backend.accept(listener);
        backend
    }

    /// For `RELAY_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/im/callback", self.address)
    }

    pub(crate) fn set(&self, manner: Manner) {
        let is_away = manner == Manner::Away;
        self.manner.send_replace(manner);
        let mut accepting = self.accepting.lock().unwrap();
        if is_away {
            if let Some(task) = accepting.take() {
                task.abort();
            }
            return;
        }
        if accepting.is_some() {
            return;
        }
        drop(accepting);
        let listener = loop {
            match listen(self.address) {
                Ok(listener) => break listener,
                // The task that was aborted still holds the port for a moment.
                Err(_) => std::thread::yield_now(),
            }
        };
        self.accept(listener);
    }

    fn accept(&self, listener: TcpListener) {
        let (manner, records) = (self.manner.clone(), Arc::clone(&self.records));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut watched, records) = (manner.subscribe(), Arc::clone(&records));
                tokio::spawn(async move {
                    let mut away = watched.clone();
                    // Away first: a request that comes after it gets no answer, on a connection that was kept either.
                    tokio::select! {
                        biased;
                        _ = away.wait_for(|manner| *manner == Manner::Away) => {}
                        _ = serve(stream, &mut watched, &records) => {}
                    }
                });
            }
        });
        *self.accepting.lock().unwrap() = Some(task);
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.records.lock().unwrap().all.clone()
    }

    /// The names of each group in the order in which they were taken.
    pub(crate) fn taken(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for recorded in self.records.lock().unwrap().all.iter().filter(|recorded| recorded.taken) {
            if let Some((group, name)) = recorded.said() {
                groups.entry(group).or_default().push(name);
            }
        }
        groups
    }

    pub(crate) fn taken_count(&self) -> usize {
        self.records.lock().unwrap().all.iter().filter(|recorded| recorded.taken).count()
    }

    /// Each request of a group, by whom it came and how it went: for a failure.
    pub(crate) fn deliveries_of(&self, group: &str) -> String {
        let line = |recorded: &Recorded| {
            let (of, name) = recorded.said()?;
            let sender = recorded.header("x-group-mirror-relay").unwrap_or_default();
            let kind = recorded.header("x-group-mirror-delivery").unwrap_or("first");
            (of == group)
                .then(|| format!("{name} {sender} {kind} {}", if recorded.taken { "taken" } else { "-" }))
        };
        self.all().iter().filter_map(line).collect::<Vec<_>>().join("\n")
    }

    /// Groups of which two requests were open at the same time.
    pub(crate) fn overlaps(&self) -> Vec<String> {
        self.records.lock().unwrap().overlaps.clone()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Marks a request of a group as open for as long as it lives.
struct Open<'a>(&'a Mutex<Records>, Option<String>);

impl<'a> Open<'a> {
    fn new(records: &'a Mutex<Records>, group: Option<String>) -> Self {
        if let Some(group) = &group {
            let mut records = records.lock().unwrap();
            let count = records.in_flight.entry(group.clone()).or_default();
            *count += 1;
            if *count > 1 {
                records.overlaps.push(group.clone());
            }
        }
        Self(records, group)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(group) = &self.1 {
            *self.0.lock().unwrap().in_flight.get_mut(group).unwrap() -= 1;
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    manner: &mut watch::Receiver<Manner>,
    records: &Mutex<Records>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let (recorded, rest) = read_request(&mut stream, bytes).await?;
        bytes = rest;
        let said = recorded.said();
        let group = said.map(|(group, _)| group);
        let at = {
            let mut records = records.lock().unwrap();
            records.all.push(recorded);
            records.all.len() - 1
        };
        let open = Open::new(records, group.clone());
        let now = manner.borrow_and_update().clone();
        let (status, body) = match now {
            Manner::Slow(pause) => {
                tokio::time::sleep(pause).await;
                (200, SUCCESS)
            }
            Manner::Resets => {
                #[expect(deprecated, reason = "a reset is what is wanted, and nothing waits to be sent")]
                stream.set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            Manner::Garbage => {
                stream.write_all(b"\x00\xffgarbage\r\n\r\n").await?;
                return Ok(());
            }
            Manner::Answers(status, body) => (status, body),
            Manner::OfGroup(wanted, status, body) if group.as_ref() == Some(&wanted) => (status, body),
            Manner::Works | Manner::Away | Manner::OfGroup(..) => (200, SUCCESS),
        };
        let is_success = status == 200 && serde_json::from_str::<Value>(body).is_ok();
        // Before the answer, because the next request of the group may come at once.
        drop(open);
        if is_success {
            records.lock().unwrap().all[at].taken = true;
        }
        let answer = format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn read_request(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<(Recorded, Vec<u8>)> {
    let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
    loop {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head: String = bytes[..end].iter().copied().map(char::from).collect();
            let mut lines = head.split("\r\n");
            let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, value)| value.parse().unwrap());
            let begin = end + 4;
            if bytes.len() >= begin + length {
                let body = bytes[begin..begin + length].to_vec();
                let rest = bytes[begin + length..].to_vec();
                return Ok((Recorded { target, headers, body, taken: false }, rest));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ended());
        }
    }
}
