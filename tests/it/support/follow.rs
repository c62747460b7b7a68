//! A follower of the feed as a script would be: it reads server-sent events and remembers the last id. A `Watcher`
//! comes back whenever its stream ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{API_TOKEN, PATIENCE, eventually};

/// How long a script waits until it connects again.
const PAUSE: Duration = Duration::from_millis(50);

/// One stream that is open.
pub(crate) struct Follower {
    response: Response,
    read: Vec<u8>,
    /// The id of the last complete event, one without data included.
    pub last_id: Option<String>,
}

impl Follower {
    /// Follows after a cursor; from the start without one.
    pub(crate) async fn start(client: &Client, url: &str, after: Option<&str>) -> Self {
        Self::ask(client, url, after).await.unwrap_or_else(|status| panic!("{url}: {status:?}"))
    }

    /// The same; an answer that is no stream is its status, none where there is no answer.
    pub(crate) async fn ask(
        client: &Client,
        url: &str,
        after: Option<&str>,
    ) -> Result<Self, Option<StatusCode>> {
        let mut request = client.get(url).bearer_auth(API_TOKEN).header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.map_err(|_| None)?;
        if response.status() != StatusCode::OK {
            return Err(Some(response.status()));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self { response, read: Vec::new(), last_id: after.map(str::to_owned) })
    }

    /// The next event with data; `None` at the end of the stream. Heartbeats alone are no answer: a test that waited
    /// through them would never end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let data = async {
            loop {
                if let Some(data) = self.event().await? {
                    return Some(data);
                }
            }
        };
        timeout(PATIENCE, data).await.unwrap_or_else(|_| panic!("no entry in {PATIENCE:?}"))
    }

    /// The data of the next event, none where it only names the position; `None` at the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<Option<Value>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let text = String::from_utf8(event).unwrap();
                let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
                self.last_id = field("id: ").map(str::to_owned).or_else(|| self.last_id.take());
                let Some(data) = field("data: ") else { return Some(None) };
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(field("id: "), data["cursor"].as_str());
                return Some(Some(data));
            }
            self.read.extend(self.response.chunk().await.ok()??);
        }
    }
}

/// What a follower has received that comes back behind its last id.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// How often each entry came, by its cursor, with its group.
    pub entries: BTreeMap<String, (String, usize)>,
    pub last_id: Option<String>,
    /// Its cursor was answered with 410.
    pub gone: bool,
    /// Streams that were answered with 503.
    pub refused: usize,
}

impl Seen {
    /// The groups, each as often as it came.
    pub(crate) fn groups(&self) -> Vec<String> {
        let each = self.entries.values();
        let mut groups: Vec<String> =
            each.flat_map(|(group, times)| std::iter::repeat_n(group.clone(), *times)).collect();
        groups.sort_unstable();
        groups
    }

    fn note(&mut self, event: &Value) {
        let (cursor, group) = (event["cursor"].as_str().unwrap(), event["group_id"].as_str().unwrap_or("-"));
        self.entries.entry(cursor.to_owned()).or_insert((group.to_owned(), 0)).1 += 1;
    }
}

/// A task that follows, and comes back after every end and every refusal until its cursor is gone.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watcher {
    /// `url` is where the service is at the moment.
    pub(crate) fn start(
        client: &Client,
        url: impl Fn() -> String + Send + Sync + 'static,
        after: Option<&str>,
    ) -> Self {
        let seen = Seen { last_id: after.map(str::to_owned), ..Seen::default() };
        let (seen, stop, client) = (Arc::new(Mutex::new(seen)), CancellationToken::new(), client.clone());
        let (theirs, until) = (Arc::clone(&seen), stop.clone());
        let task = tokio::spawn(async move {
            let followed = until.run_until_cancelled(async {
                while !theirs.lock().unwrap().gone {
                    connect(&client, &url(), &theirs).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
            followed.await;
        });
        Self { seen, stop, task }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until what it has seen is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Seen) -> bool) {
        let came = eventually(async || wanted(&self.seen.lock().unwrap())).await;
        assert!(came && !self.task.is_finished() || self.seen().gone, "in vain: {:?}", self.seen());
    }

    /// Waits until it has seen so many entries.
    pub(crate) async fn until_seen(&self, entries: usize) {
        self.until(|seen| seen.entries.len() >= entries).await;
    }

    pub(crate) async fn end(self) -> Seen {
        self.stop.cancel();
        self.task.await.unwrap();
        Arc::into_inner(self.seen).unwrap().into_inner().unwrap()
    }
}

/// One stream, to its end.
async fn connect(client: &Client, url: &str, seen: &Mutex<Seen>) {
    let after = seen.lock().unwrap().last_id.clone();
    match Follower::ask(client, url, after.as_deref()).await {
        Ok(mut follower) => {
            while let Some(event) = follower.event().await {
                let mut seen = seen.lock().unwrap();
                event.iter().for_each(|event| seen.note(event));
                seen.last_id.clone_from(&follower.last_id);
            }
        }
        Err(Some(StatusCode::GONE)) => seen.lock().unwrap().gone = true,
        Err(Some(StatusCode::SERVICE_UNAVAILABLE)) => seen.lock().unwrap().refused += 1,
        Err(Some(StatusCode::BAD_GATEWAY) | None) => {}
        Err(status) => panic!("{status:?}"),
    }
}
