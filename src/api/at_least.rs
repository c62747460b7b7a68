//! `at_least=CURSOR`: a read that waits until the mirror has got to an entry of the feed, so that a client which has seen an
//! entry anywhere never reads an older state after it (monotonic reads).
//!
//! Every replica, and every database that is read, may be behind the one that gave the cursor. The mirror has got there when
//! the high watermark of the feed has, in the ledger that this process reads, and the entry is there: a ledger that was
//! replaced is answered as for the feed, with 410. A read that has to wait is woken by the rounds of the feed's reader, which
//! goes through them without its pauses meanwhile. Where a standby serves the reads it is the standby that has to have got
//! there: one of the reads that wait asks for all of them. Only a limited number waits, each for a limited time.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::auth::Caller;
use super::change::FeedPosition;
use super::errors::ApiError;
use super::query::pairs;
use super::state::ApiState;
use crate::model::SdkAppId;
use crate::store::{READ_WAIT_MAX, feed, high_watermark, in_time};

/// How long a read waits for the mirror.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How often a standby is asked while reads wait for it.
const STANDBY_PAUSE: Duration = Duration::from_millis(50);

/// How many reads wait at once.
const WAITING_MAX: usize = 64;

/// The permits to wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct WaitState {
    api: ApiState,
    permits: Arc<Semaphore>,
    /// Held by the read that asks the standby for all that wait.
    asking: Arc<Mutex<()>>,
    /// What the last one has found.
    notes: watch::Sender<Option<StandbyNote>>,
}

/// How far the feed is, as the database of lookups has it.
#[derive(Debug)]
struct StandbyNote {
    epoch: String,
    position: i64,
}

impl WaitState {
    pub(super) fn of(api: ApiState) -> Self {
        let (permits, notes) = (Arc::new(Semaphore::new(WAITING_MAX)), watch::Sender::new(None));
        Self { api, permits, asking: Arc::default(), notes }
    }
}

/// Passes a read on once the mirror has got to where it wants.
///
/// # Errors
/// `bad_cursor`; `unavailable` where the mirror does not get there in time, or the ledger cannot be read.
pub(super) async fn wait(
    State(state): State<WaitState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let mut named: (Option<String>, Option<String>) = (None, None);
    for (name, value, _) in pairs(request.uri().query().unwrap_or_default()) {
        match &*name {
            "at_least" => named.0 = Some(value.into_owned()),
            "sdk_app_id" => named.1 = Some(value.into_owned()),
            _ => {}
        }
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if let (Some(cursor), app, true) = (named.0, named.1, is_read)
        && request.uri().path().starts_with("/v1/")
    {
        let caller = request.extensions().get::<Caller>();
        let app = app.map(|text| SdkAppId::parse(&text)).transpose();
        // What is wrong about the app, the handler says.
        if let (Some(caller), Ok(app)) = (caller, app) {
            let app = caller.app(app, state.api.app)?;
            state.until(&FeedPosition::read(app.get(), &cursor)?).await?;
        }
    }
    Ok(next.run(request).await)
}

impl WaitState {
    async fn until(&self, wanted: &FeedPosition) -> Result<(), ApiError> {
        if self.api.database.standby().is_some() {
            return self.until_in_standby(wanted).await;
        }
        let mut rounds = self.api.feed.rounds();
        if self.is_reached(wanted).await? {
            return Ok(());
        }
        let _permit = self.permit()?;
        let until = Instant::now() + WAIT_MAX;
        loop {
            self.api.feed.wake_reader();
            timeout_at(until, rounds.changed()).await.map_err(|_| late())?.map_err(ApiError::internal)?;
            // What the reader knows to be too early is not asked of the database by each of those that wait.
            let known = self.api.feed.known_high_watermark(&wanted.epoch);
            if known.is_some_and(|known| known.position < wanted.place().position) {
                continue;
            }
            if timeout_at(until, self.is_reached(wanted)).await.map_err(|_| late())?? {
                return Ok(());
            }
        }
    }

    fn permit(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.permits.try_acquire().map_err(|_| {
            ApiError::unavailable(format!("{WAITING_MAX} reads wait for the mirror already; try again."))
        })
    }

    /// Waits for the standby. It shows nothing of transactions that are still open in the primary, so the high watermark that
    /// the reader of the feed notes in the database is what counts: where the note has arrived, all that it stands for
    /// has. In the primary, where the read may go as well, the same is true.
    async fn until_in_standby(&self, wanted: &FeedPosition) -> Result<(), ApiError> {
        let until = Instant::now() + WAIT_MAX;
        if self.is_noted(wanted).await? {
            return Ok(());
        }
        let _permit = self.permit()?;
        let mut notes = self.notes.subscribe();
        loop {
            timeout_at(until, self.next_note(&mut notes)).await.map_err(|_| late())??;
            // What is noted to be too early is not asked of the database by each of those that wait.
            let is_early = notes
                .borrow_and_update()
                .as_ref()
                .is_none_or(|note| note.epoch == wanted.epoch && note.position < wanted.place().position);
            if !is_early && timeout_at(until, self.is_noted(wanted)).await.map_err(|_| late())?? {
                return Ok(());
            }
        }
    }

    /// Waits until the note was read anew: by this read, where no other one is about to.
    async fn next_note(&self, notes: &mut watch::Receiver<Option<StandbyNote>>) -> Result<(), ApiError> {
        tokio::select! {
            biased;
            changed = notes.changed() => return changed.map_err(ApiError::internal),
            _asking = self.asking.lock() => {
                self.api.feed.wake_reader();
                sleep(STANDBY_PAUSE).await;
                let note = in_time(READ_WAIT_MAX, async {
                    let mut conn = self.api.lookup_connection().await?;
                    let epoch = feed::epoch(&mut conn).await?;
                    let position = high_watermark::noted(&mut conn).await?.position;
                    Ok::<_, ApiError>(StandbyNote { epoch, position })
                });
                self.notes.send_replace(Some(note.await?));
            }
        }
        Ok(())
    }

    /// Whether the database that lookups are read from has got there.
    async fn is_noted(&self, wanted: &FeedPosition) -> Result<bool, ApiError> {
        in_time(READ_WAIT_MAX, async {
            let mut conn = self.api.lookup_connection().await?;
            if feed::epoch(&mut conn).await? != wanted.epoch {
                return Err(gone());
            }
            let (place, noted) = (wanted.place(), high_watermark::noted(&mut conn).await?);
            if noted.position < place.position {
                return Ok(false);
            }
            if place.position < feed::dropped(&mut conn).await?.position {
                return Ok(true);
            }
            if feed::holds(&mut conn, &place).await? { Ok(true) } else { Err(gone()) }
        })
        .await
    }

    /// Whether the mirror has got there.
    async fn is_reached(&self, wanted: &FeedPosition) -> Result<bool, ApiError> {
        // The reader has just seen the entry, and every entry before it.
        if self.api.feed.recent_after(wanted).is_some() {
            return Ok(true);
        }
        let _reading = self.api.feed.read_permit(WAIT_MAX).await?;
        in_time(READ_WAIT_MAX, async {
            let mut conn = self.api.feed_connection().await?;
            let epoch = feed::epoch(&mut conn).await?;
            if epoch != wanted.epoch {
                return Err(gone());
            }
            let place = wanted.place();
            let is_known = |known: i64| known >= place.position;
            let known =
                self.api.feed.known_high_watermark(&epoch).is_some_and(|known| is_known(known.position));
            if !known && !is_known(self.api.feed.high_watermark(&mut conn, &epoch).await?.place.position) {
                return Ok(false);
            }
            // The mirror holds what was pruned.
            if place.position < feed::dropped(&mut conn).await?.position {
                return Ok(true);
            }
            if feed::holds(&mut conn, &place).await? { Ok(true) } else { Err(gone()) }
        })
        .await
    }
}

fn late() -> ApiError {
    ApiError::unavailable("The mirror has not got to the cursor of at_least in 2 s; try again.")
}

fn gone() -> ApiError {
    ApiError::gone(
        "The cursor of at_least belongs to a ledger that has been replaced; read without it, and begin anew.",
    )
}
