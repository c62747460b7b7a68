//! What one connection is doing, and since when: the state machine by which it is kept, timed out or evicted.
//!
//! The handshake reports its begin and end, the stream reports bytes, the service reports requests; the connection's own
//! task asks when its time is over, the table of all connections asks how easily it could be spared. A request is "in
//! work" from its head to the last byte of its answer that the HTTP library has taken over.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long the head of a request may take from its first byte.
pub(super) const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take, from the accept on.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a connection without a whole head is safe from being closed first when room is needed.
const FIRST_HEAD_WAIT_WHEN_FULL: Duration = Duration::from_secs(5);

/// How long one that sent nothing is kept where every other one is needed more. A sender's first bytes follow its
/// handshake at once, so this is many round trips; and it is short, because a callback may wait in the kernel's queue
/// behind hundreds of silent connections while Tencent waits 2 s.
const FIRST_BYTE_WAIT_WHEN_FULL: Duration = Duration::from_millis(250);

/// How long the rest of a request that is answered already is read where room is needed.
const LINGER_WAIT_WHEN_FULL: Duration = Duration::from_millis(250);

/// How long a head may take, a record of TLS, or an answer wait for its reader, where room is needed and nothing else can be spared: the
/// time that Tencent waits for a whole exchange.
const EXCHANGE_WAIT_WHEN_FULL: Duration = Duration::from_secs(2);

/// How long the rest of a request is read and dropped after an early answer, so that the sender can read that answer.
pub(super) const LINGER_WAIT_MAX: Duration = Duration::from_secs(2);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// TLS is wanted before anything else, and a byte of its handshake has come or not.
    Handshake {
        /// A byte has come.
        begun: bool,
    },
    /// Nothing has come since it was accepted, or since its handshake.
    New,
    /// A head has begun.
    Head,
    /// A request is in work.
    Request,
    /// The last request was answered.
    Idle,
    /// The answer is out and the sending side closed; what still comes is dropped.
    Lingering,
}

/// How easily a connection can be spared, and since when it is in its phase; the least is closed first. No kind is a
/// connection with a request in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spare {
    /// It owes a whole head, or a handshake, for longer than [`FIRST_HEAD_WAIT_WHEN_FULL`].
    Silent(Instant),
    /// It has its answer and is about to close, for longer than [`LINGER_WAIT_WHEN_FULL`].
    Lingering(Instant),
    /// It was answered, and is idle since then.
    Idle(Instant),
    /// It sent nothing for [`FIRST_BYTE_WAIT_WHEN_FULL`].
    New(Instant),
    /// Its head, or its handshake, has taken [`EXCHANGE_WAIT_WHEN_FULL`].
    SlowHead(Instant),
    /// It has not read its last answer for [`EXCHANGE_WAIT_WHEN_FULL`].
    Unread(Instant),
}

/// How long a connection may stay in a phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseLimits {
    pub(super) idle: Duration,
    /// Since a stop: the moment of the stop, and the silence that is enough.
    pub(super) stopping: Option<(Instant, Duration)>,
}

/// The state of one connection, shared by its stream, its service, its task and the table of all.
#[derive(Debug)]
pub(super) struct Activity {
    /// The other end; unset where the system does not know it any more.
    peer: OnceLock<SocketAddr>,
    state: Mutex<ActivityState>,
    room_needed: Notify,
}

#[derive(Debug)]
struct ActivityState {
    phase: Phase,
    since: Instant,
    /// Since when the peer does not take the bytes of an answer.
    unsent: Option<Instant>,
    spoke_tls: bool,
    /// Since when bytes have come that are no byte of a request yet: a record of TLS is read when it is whole.
    record: Option<Instant>,
}

impl ActivityState {
    /// Since when a record is on its way to a connection that waits for a request.
    fn record_under_way(&self) -> Option<Instant> {
        self.record.filter(|_| matches!(self.phase, Phase::New | Phase::Idle))
    }
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = ActivityState {
            phase: Phase::New,
            since: Instant::now(),
            unsent: None,
            spoke_tls: false,
            record: None,
        };
        Self { peer: OnceLock::new(), state: Mutex::new(state), room_needed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the other end, once.
    pub(super) fn comes_from(&self, peer: SocketAddr) {
        self.peer.get_or_init(|| peer);
    }

    /// The other end.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer.get().copied()
    }

    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Before anything else a TLS handshake is waited for.
    pub(super) fn wait_for_handshake(&self) {
        let mut state = self.state();
        assert_eq!(state.phase, Phase::New, "a handshake stands at the begin of a connection");
        state.phase = Phase::Handshake { begun: false };
    }

    /// The first byte of the handshake has come; its time runs since the accept.
    pub(super) fn handshake_begins(&self) {
        self.state().phase = Phase::Handshake { begun: true };
    }

    /// A request may come.
    pub(super) fn handshake_ends(&self) {
        let mut state = self.state();
        (state.phase, state.since, state.record) = (Phase::New, Instant::now(), None);
    }

    /// Bytes have come on the wire.
    pub(super) fn wire_received(&self) {
        self.state().record.get_or_insert_with(Instant::now);
    }

    /// Bytes of a request have come.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.record = None;
        // A TLS record of the handshake type begins with these two.
        state.spoke_tls |= state.phase == Phase::New && bytes.starts_with(&[0x16, 0x03]);
        if matches!(state.phase, Phase::New | Phase::Idle) {
            (state.phase, state.since) = (Phase::Head, Instant::now());
        }
    }

    /// True where the first bytes were the beginning of a TLS handshake.
    pub(super) fn spoke_tls(&self) -> bool {
        self.state().spoke_tls
    }

    /// The peer does not take what is sent to it, or takes it again.
    pub(super) fn set_unsent(&self, unsent: bool) {
        self.state().unsent = unsent.then(Instant::now);
    }

    /// The answer is out; from here on the connection only drops what comes.
    pub(super) fn lingers(&self) {
        let mut state = self.state();
        (state.phase, state.since) = (Phase::Lingering, Instant::now());
    }

    /// A whole head has come. The request is in work until the value is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestInWork {
        self.state().phase = Phase::Request;
        RequestInWork(Arc::clone(self))
    }

    /// When it may be closed; none: not while this request is in work.
    pub(super) fn due(&self, limits: PhaseLimits) -> Option<Instant> {
        let state = self.state();
        let kept = match state.phase {
            Phase::Request => return None,
            // The time limit of the write ends this.
            Phase::Idle if state.unsent.is_some() => return None,
            Phase::Lingering => return Some(after(state.since, LINGER_WAIT_MAX)),
            Phase::Handshake { .. } => after(state.since, HANDSHAKE_WAIT_MAX),
            Phase::New | Phase::Idle => after(state.since, limits.idle),
            Phase::Head => after(state.since, HEAD_WAIT_MAX),
        };
        let silence = |(stop, silence): (Instant, Duration)| after(state.since.max(stop), silence);
        let kept = limits.stopping.map_or(kept, |stopping| kept.min(silence(stopping)));
        let record = state.record_under_way().map(|record| after(record, EXCHANGE_WAIT_WHEN_FULL));
        Some(record.map_or(kept, |record| kept.max(record)))
    }

    /// How easily it can be spared at this moment; none: not at all.
    pub(super) fn spare(&self, now: Instant) -> Option<Spare> {
        let state = self.state();
        let since = state.since;
        let lasts = |since: Instant, wait: Duration| after(since, wait) <= now;
        if state.record_under_way().is_some_and(|record| !lasts(record, EXCHANGE_WAIT_WHEN_FULL)) {
            return None;
        }
        match (state.phase, state.unsent) {
            (Phase::Request, _) => None,
            (Phase::Handshake { .. } | Phase::New | Phase::Head, _)
                if lasts(since, FIRST_HEAD_WAIT_WHEN_FULL) =>
            {
                Some(Spare::Silent(since))
            }
            (Phase::New | Phase::Handshake { begun: false }, _) => {
                lasts(since, FIRST_BYTE_WAIT_WHEN_FULL).then_some(Spare::New(since))
            }
            (Phase::Lingering, _) => lasts(since, LINGER_WAIT_WHEN_FULL).then_some(Spare::Lingering(since)),
            (_, Some(unsent)) => lasts(unsent, EXCHANGE_WAIT_WHEN_FULL).then_some(Spare::Unread(unsent)),
            (Phase::Idle, None) => Some(Spare::Idle(since)),
            (Phase::Head | Phase::Handshake { begun: true }, None) => {
                lasts(since, EXCHANGE_WAIT_WHEN_FULL).then_some(Spare::SlowHead(since))
            }
        }
    }

    /// Asks the connection's task to close it, if it can still be spared by then.
    pub(super) fn need_room(&self) {
        self.room_needed.notify_one();
    }

    pub(super) async fn room_needed(&self) {
        self.room_needed.notified().await;
    }
}

/// A request in work; dropped with the last piece of its answer, or with the request where the peer hung up.
#[derive(Debug)]
pub(super) struct RequestInWork(Arc<Activity>);

impl Drop for RequestInWork {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.phase == Phase::Request {
            (state.phase, state.since) = (Phase::Idle, Instant::now());
        }
    }
}

/// The moment that lies `wait` after `begin`; a wait that no clock can hold is as good as a day.
pub(super) fn after(begin: Instant, wait: Duration) -> Instant {
    begin.checked_add(wait).unwrap_or(begin + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(stopping: Option<(Instant, Duration)>) -> PhaseLimits {
        PhaseLimits { idle: 620 * SECOND, stopping }
    }

    #[test]
    fn a_request_in_work_is_never_due_nor_spared() {
        let activity = Arc::new(Activity::new());
        activity.received(b"POST /");
        let in_work = activity.begin_request();
        let later = Instant::now() + 1000 * SECOND;
        assert_eq!(activity.spare(later), None);
        assert_eq!(activity.due(limits(Some((Instant::now(), SECOND)))), None);
        drop(in_work);
        assert!(matches!(activity.spare(later), Some(Spare::Idle(_))));
    }

    #[test]
    fn the_time_for_a_head_is_apart_from_the_idle_time() {
        let activity = Arc::new(Activity::new());
        let begun = Instant::now();
        assert!(activity.due(limits(None)).unwrap() >= begun + 600 * SECOND);
        activity.received(b"PO");
        assert!(activity.due(limits(None)).unwrap() <= Instant::now() + HEAD_WAIT_MAX);
        drop(activity.begin_request());
        assert!(activity.due(limits(None)).unwrap() >= begun + 600 * SECOND);
    }

    /// One connection in each phase that can be spared, entered just now.
    fn one_of_each() -> [Arc<Activity>; 5] {
        let [new, head, idle, unread, lingering] = std::array::from_fn(|_| Arc::new(Activity::new()));
        head.received(b"PO");
        drop(idle.begin_request());
        drop(unread.begin_request());
        unread.set_unsent(true);
        lingering.lingers();
        [new, head, idle, unread, lingering]
    }

    #[test]
    fn silent_connections_are_spared_before_idle_ones_and_those_that_are_younger_only_after_them() {
        let all = one_of_each();
        let spares = |wait: Duration| {
            let now = Instant::now() + wait;
            let mut spares: Vec<Spare> = all.iter().filter_map(|activity| activity.spare(now)).collect();
            spares.sort_unstable();
            spares
        };
        assert!(matches!(spares(Duration::ZERO)[..], [Spare::Idle(_)]));
        assert!(matches!(
            spares(FIRST_BYTE_WAIT_WHEN_FULL)[..],
            [Spare::Lingering(_), Spare::Idle(_), Spare::New(_)]
        ));
        assert!(matches!(
            spares(EXCHANGE_WAIT_WHEN_FULL)[..],
            [Spare::Lingering(_), Spare::Idle(_), Spare::New(_), Spare::SlowHead(_), Spare::Unread(_)]
        ));
        assert!(matches!(
            spares(FIRST_HEAD_WAIT_WHEN_FULL)[..],
            [Spare::Silent(_), Spare::Silent(_), Spare::Lingering(_), Spare::Idle(_), Spare::Unread(_)]
        ));
    }

    #[test]
    fn a_connection_to_which_a_record_is_on_its_way_is_neither_due_nor_spared_but_not_for_long() {
        let activity = Arc::new(Activity::new());
        activity.received(b"POST /");
        drop(activity.begin_request());
        let idle_over = PhaseLimits { idle: Duration::ZERO, stopping: None };
        let now = Instant::now();
        assert!(activity.due(idle_over).unwrap() <= now && activity.spare(now).is_some());
        activity.wire_received();
        assert!(activity.due(idle_over).unwrap() > now && activity.spare(now).is_none());
        // A second byte does not extend it.
        activity.wire_received();
        let later = Instant::now() + EXCHANGE_WAIT_WHEN_FULL;
        assert!(activity.due(idle_over).unwrap() <= later && activity.spare(later).is_some());
        activity.received(b"POST /");
        assert_eq!(activity.phase(), Phase::Head);
    }

    #[test]
    fn a_handshake_has_a_time_limit_from_the_accept_on_and_can_be_spared() {
        let accepted = Instant::now();
        let activity = Activity::new();
        activity.wait_for_handshake();
        assert!(activity.due(limits(None)).unwrap() >= accepted + HANDSHAKE_WAIT_MAX);
        let spare = |wait: Duration| activity.spare(Instant::now() + wait);
        assert_eq!(spare(Duration::ZERO), None);
        assert!(matches!(spare(FIRST_BYTE_WAIT_WHEN_FULL), Some(Spare::New(_))));
        activity.handshake_begins();
        activity.wire_received();
        assert!(activity.due(limits(None)).unwrap() <= Instant::now() + HANDSHAKE_WAIT_MAX);
        assert_eq!(spare(FIRST_BYTE_WAIT_WHEN_FULL), None);
        assert!(matches!(spare(EXCHANGE_WAIT_WHEN_FULL), Some(Spare::SlowHead(_))));
        assert!(matches!(spare(FIRST_HEAD_WAIT_WHEN_FULL), Some(Spare::Silent(_))));
        activity.handshake_ends();
        assert_eq!((activity.phase(), spare(Duration::ZERO)), (Phase::New, None));
        assert!(activity.due(limits(None)).unwrap() >= accepted + 600 * SECOND);
    }

    #[test]
    fn of_one_kind_the_one_that_lasts_longest_is_spared_first() {
        let now = Instant::now();
        assert!(Spare::New(now - SECOND) < Spare::New(now) && Spare::Idle(now) < Spare::New(now - SECOND));
    }

    #[test]
    fn after_a_stop_a_silence_is_enough_counted_from_the_stop_on() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin_request());
        let stop = Instant::now() + 100 * SECOND;
        assert_eq!(activity.due(limits(Some((stop, 2 * SECOND)))), Some(stop + 2 * SECOND));
    }
}
