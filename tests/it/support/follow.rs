//! A follower of the feed as a script would be: it reads server-sent events and remembers the last id.

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use super::API_TOKEN;

/// One stream that is open.
pub(crate) struct Follower {
    response: Response,
    read: Vec<u8>,
    /// The id of the last complete event.
    pub last_id: Option<String>,
}

impl Follower {
    /// Follows after a cursor; from the start without one.
    pub(crate) async fn start(client: &Client, url: &str, after: Option<&str>) -> Self {
        let mut request = client.get(url).bearer_auth(API_TOKEN).header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: Vec::new(), last_id: after.map(str::to_owned) }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let text = String::from_utf8(event).unwrap();
                let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data: ") {
                    let data: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(field("id: "), data["cursor"].as_str());
                    self.last_id = field("id: ").map(str::to_owned);
                    return Some(data);
                }
            }
            self.read.extend(self.response.chunk().await.ok()??);
        }
    }
}
