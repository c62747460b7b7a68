//! The stream behind the live page: what comes, as list items that are rendered here, and the first line every two seconds.
//!
//! Markup is rendered by the server alone, so that there is one place that escapes, and a script of a few lines puts it into the
//! page. A stream resumes behind the position that the browser names in `Last-Event-ID`. It counts among the followers of the
//! feed, which are limited, and ends with the service or with its reader.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::Sender;
use maud::html;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::feed_line::feed_line;
use super::state::ConsoleState;
use super::trust::Trust;
use super::visit::Visit;
use super::wall::{BATCH_ROWS_MAX, WallBatch};
use crate::api::errors::ApiError;
use crate::api::follower::stream_body;
use crate::store::wall::{self, WallRow};
use crate::store::{READ_WAIT_MAX, in_time};

/// How often the first line is sent.
const TRUST_PERIOD: Duration = Duration::from_secs(2);

/// The first line of a stream: how long a browser should wait before it reconnects, in ms.
const GREETING: &str = "retry: 2000\n\n";

/// `GET /live/events`.
pub(super) async fn events(
    State(state): State<ConsoleState>,
    visit: Visit,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let permit = state.api.feed.follower_permit()?;
    let query = query.unwrap_or_default();
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "after");
    let last_event = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let after = last_event.map(str::to_owned).or_else(|| named.map(|(_, value)| value.into_owned()));
    let after = after.and_then(|text| text.parse::<i64>().ok()).filter(|after| *after >= 0);
    let (sender, body, gone) = stream_body();
    let batches = state.wall.batches();
    tokio::spawn(LiveStream { state, visit, after, sender }.run(batches, gone, permit));
    Ok(stream(body))
}

fn stream(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Without this nginx buffers the stream.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// One open page.
struct LiveStream {
    state: ConsoleState,
    visit: Visit,
    /// The last position that was sent; none: whatever is new.
    after: Option<i64>,
    sender: Sender<Bytes>,
}

/// The reader has left.
struct ReaderLeft;

impl LiveStream {
    async fn run(
        mut self,
        batches: Receiver<Arc<WallBatch>>,
        gone: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) {
        let stop = self.state.api.feed.stop().clone();
        tokio::select! {
            () = gone.cancelled() => {}
            () = stop.cancelled() => {}
            _ = self.send_all(batches) => {}
        }
        drop(permit);
    }

    async fn send_all(&mut self, mut batches: Receiver<Arc<WallBatch>>) -> Result<(), ReaderLeft> {
        self.send(GREETING.into()).await?;
        self.catch_up().await?;
        let mut beat = interval(TRUST_PERIOD);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Ok(batch) => {
                        self.send_batch(&batch).await?;
                    }
                    // The page shows that something is missing.
                    Err(RecvError::Lagged(_)) => self.send_rows(&[], true).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = beat.tick() => self.send_trust().await?,
            }
        }
    }

    /// What has come since the page was read. A database that does not answer costs no more than these.
    async fn catch_up(&mut self) -> Result<(), ReaderLeft> {
        let Some(after) = self.after else { return Ok(()) };
        let (api, app) = (&self.state.api, self.visit.app);
        let read = async {
            let mut conn = api.feed_connection().await?;
            Ok::<_, ApiError>(wall::newest(&mut conn, app, (after, None), BATCH_ROWS_MAX).await?)
        };
        let Ok(mut found) = in_time(READ_WAIT_MAX, read).await else { return Ok(()) };
        found.rows.reverse();
        self.send_rows(&found.rows, found.is_cut).await
    }

    /// What is new of a batch. Open pages share the markup, so that many of them cost little more than one.
    async fn send_batch(&mut self, batch: &WallBatch) -> Result<(), ReaderLeft> {
        let rows = batch.rows.get(&self.visit.app).map_or(&[][..], Vec::as_slice);
        let (new, is_cut) = (self.unseen(rows), batch.cut.contains(&self.visit.app));
        // Where this page has the oldest of these rows already, what was left out before them is on it as well.
        let is_cut = is_cut && new.len() == rows.len();
        if new.is_empty() && !is_cut {
            return Ok(());
        }
        let key = format!("{} {}", self.visit.look(), new.len());
        let items = batch.rendered(key, || self.items(&new, is_cut));
        let last = new.last().map(|row| row.position);
        self.send_items(last, &items).await
    }

    async fn send_rows(&mut self, rows: &[WallRow], is_cut: bool) -> Result<(), ReaderLeft> {
        let new = self.unseen(rows);
        // Where this page has the oldest of these rows already, what was left out before them is on it as well.
        let is_cut = is_cut && new.len() == rows.len();
        if new.is_empty() && !is_cut {
            return Ok(());
        }
        let items = self.items(&new, is_cut);
        let last = new.last().map(|row| row.position);
        self.send_items(last, &items).await
    }

    /// The rows that the page does not have yet, oldest first.
    fn unseen<'a>(&self, rows: &'a [WallRow]) -> Vec<&'a WallRow> {
        let after = self.after.unwrap_or_default();
        rows.iter().filter(|row| row.position > after).collect()
    }

    fn items(&self, new: &[&WallRow], is_cut: bool) -> String {
        let items = html! {
            @for row in new.iter().rev() { (feed_line(&self.visit, row)) }
            @if is_cut { li class="cut" { (self.visit.text("live-cut")) } }
        };
        items.into_string()
    }

    async fn send_items(&mut self, last: Option<i64>, items: &str) -> Result<(), ReaderLeft> {
        self.after = last.or(self.after);
        let id = self.after.unwrap_or_default().to_string();
        self.send(event("entries", Some(&id), items)).await
    }

    async fn send_trust(&mut self) -> Result<(), ReaderLeft> {
        let trust = Trust::known(&self.state, self.visit.app);
        let line = trust.line(self.visit.language(), |path| self.visit.url(path));
        self.send(event("trust", None, &line.into_string())).await
    }

    async fn send(&mut self, text: String) -> Result<(), ReaderLeft> {
        self.sender.send_data(text.into()).await.map_err(|_| ReaderLeft)
    }
}

/// A server-sent event. Line ends would end its line, so they are written as character references, which mean the same to the
/// reader of the markup.
fn event(kind: &str, id: Option<&str>, markup: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let markup = markup.replace('\n', "&#10;").replace('\r', "&#13;");
    format!("{id}event: {kind}\ndata: {markup}\n\n")
}

#[cfg(test)]
mod tests {
    use super::event;

    #[test]
    fn no_name_of_a_group_ends_the_line_of_an_event() {
        let sent = event("entries", Some("7"), "<li>a\nid: 9\r\n\r\ndata: b</li>");
        assert_eq!(sent, "id: 7\nevent: entries\ndata: <li>a&#10;id: 9&#13;&#10;&#13;&#10;data: b</li>\n\n");
    }
}
