//! The relay: passes authentic callbacks on to the backend that stands behind the mirror.
//!
//! Tencent knows one callback URL per app, so a team that has a backend already can run the mirror only in front of it.
//! What is passed on keeps its bytes: body, query string and end-to-end headers (`headers`). [`AppRelay`] asks for verdicts
//! and passes notifications on, each through a gate with a limit and a circuit breaker (`call_gate`, `breaker`); `worth`
//! says which answers go back. The client of a backend is `target`; `address` reads `RELAY_URL`; `loop_guard` notices
//! mirrors that relay to each other. Nothing here knows a database or writes to a disk.

mod address;
mod app_relay;
mod breaker;
mod call_gate;
mod headers;
mod loop_guard;
mod target;
mod worth;

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::HeaderMap;
use tokio_util::task::TaskTracker;

use crate::model::SdkAppId;

pub use address::{BackendAddress, BackendAddressError};
pub use app_relay::{AppRelay, BackendRules, BackendVerdict};
pub use headers::RelayRequest;
pub use loop_guard::{LoopGuard, LoopSighting};
pub use target::{ANSWER_BYTES_MAX, BackendFault, RelayAnswer, RelayTarget};
pub use worth::{UnusableAnswer, Worth, judge};

/// How many calls of one kind may be in work at all backends together, and at one of them. At 500 callbacks a second 256
/// are enough for answers in half a second.
const CALLS_OF_ALL_MAX: usize = 512;
const CALLS_OF_ONE_MAX: usize = 256;

/// What each backend has, however many there are.
const CALLS_OF_ONE_LEAST: usize = 32;

/// The relays of all apps that have a backend. Cheap to clone; without a backend nothing is relayed.
#[derive(Debug, Clone, Default)]
pub struct Relays(Arc<RelayTable>);

#[derive(Debug, Default)]
struct RelayTable {
    by_app: BTreeMap<SdkAppId, AppRelay>,
    /// Calls of one kind at one backend.
    calls: usize,
    guard: LoopGuard,
    tasks: TaskTracker,
}

impl Relays {
    /// One relay for each app with a backend; no connection is made yet.
    ///
    /// # Errors
    /// TLS without certificates of authorities on this machine, with what the system says.
    pub fn new(
        backends: impl IntoIterator<Item = (SdkAppId, BackendAddress, BackendRules)>,
    ) -> std::io::Result<Self> {
        let (guard, tasks) = (LoopGuard::new(), TaskTracker::new());
        let backends: Vec<_> = backends.into_iter().collect();
        let calls = (CALLS_OF_ALL_MAX / backends.len().max(1)).clamp(CALLS_OF_ONE_LEAST, CALLS_OF_ONE_MAX);
        let mut by_app = BTreeMap::new();
        for (app, address, rules) in backends {
            let target = RelayTarget::new(address, guard.clone())?;
            by_app.insert(app, AppRelay::new(app, target, rules, calls, tasks.clone()));
        }
        Ok(Self(Arc::new(RelayTable { by_app, calls, guard, tasks })))
    }

    /// The relay of an app; none: it has no backend.
    #[must_use]
    pub fn of(&self, app: SdkAppId) -> Option<&AppRelay> {
        self.0.by_app.get(&app)
    }

    /// How many connections to backends there may be at once, about, where others make up to `deliveries` calls of each
    /// backend beside: each holds a descriptor.
    #[must_use]
    pub fn connections_max(&self, deliveries: usize) -> usize {
        // Verdicts and notices.
        (2 * self.0.calls + deliveries) * self.0.by_app.len()
    }

    /// Whether a relay has sent these headers. Without a backend nothing can go in a circle, and nothing is looked for.
    #[must_use]
    pub fn loop_sighting(&self, headers: &HeaderMap) -> Option<LoopSighting> {
        if self.0.by_app.is_empty() {
            return None;
        }
        self.0.guard.sighting(headers)
    }

    /// Waits for the notifications that are under way, each of which ends by itself in 2 s.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::callback::fallback::FallbackRules;

    fn rules() -> BackendRules {
        BackendRules { timeout: Duration::from_secs(1), fallback: FallbackRules::default() }
    }

    #[tokio::test]
    async fn a_close_waits_for_the_notices_that_are_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let app = SdkAppId::parse("1400000001").unwrap();
        let relays = Relays::new([(app, BackendAddress::parse(&address).unwrap(), rules())]).unwrap();
        relays.of(app).unwrap().pass_on(RelayRequest::kept(None, None, "{}".into()));
        let (mut backend, _) = listener.accept().await.unwrap();
        let mut closing = pin!(relays.close());
        let closed = tokio::select! {
            biased;
            () = &mut closing => true,
            () = tokio::task::yield_now() => false,
        };
        assert!(!closed, "the backend has not answered");
        backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        closing.await;
    }

    #[test]
    fn calls_are_shared_out_between_backends_and_each_has_some() {
        let app = |number: usize| SdkAppId::parse(&(1_400_000_001 + number).to_string()).unwrap();
        for (apps, calls) in [(0, 256), (1, 256), (2, 256), (4, 128), (64, 32)] {
            let address = || BackendAddress::parse("http://127.0.0.1:9000/").unwrap();
            let relays = Relays::new((0..apps).map(|number| (app(number), address(), rules()))).unwrap();
            assert_eq!(relays.connections_max(0), 2 * calls * apps, "{apps}");
            assert_eq!(relays.connections_max(32), (2 * calls + 32) * apps, "{apps}");
        }
    }
}
