//! A fake Tencent to try things out with: its REST API over HTTP, with a state, limits, quirks and a signature check of
//! its own, and the callbacks that its changes cause.
//!
//! It does what Tencent's pages say, and where they say nothing a knob chooses ([`Knobs`]); it also loses, repeats and
//! delays callbacks, shows late states and breaks connections, as asked for. It serves tests and people; it is no part of
//! the service, which does not know it. A random life (`life`) makes it move; the test door (`door`) shows its true state.
//!
//! State: `state`, `world`, `existing`. Commands: `group_writes`, `member_writes`, `detail_writes`, `reads`, `member_reads`, joined
//! by `dispatch`. Around them: `entrance`, `http`, `before`, `delivery`.

mod before;
mod code;
mod delivery;
mod detail_writes;
mod dispatch;
mod door;
mod entrance;
mod existing;
mod group_writes;
mod http;
mod knobs;
mod life;
mod member_reads;
mod member_writes;
mod reads;
mod shared;
mod state;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::callback::signature::Token;
use crate::model::{Millis, SdkAppId};
use crate::tencent::usersig::SecretKey;
use delivery::Delivery;
use entrance::Entrance;
use life::RandomLife;
use shared::Shared;
use world::World;

pub use existing::ExistingGroups;
pub use knobs::{EmptyForm, EventTimeForm, Knobs, LargeLimit, ListOrder, Spelling};
pub use life::LifePlan;

/// How often [`Fake::delivered`] looks.
const DELIVERED_POLL: Duration = Duration::from_millis(1);

/// The account of the administrator where none is named.
pub const ADMIN: &str = "administrator";

/// What a fake is made of.
#[derive(Debug, Clone)]
pub struct FakeSettings {
    /// Where the REST API listens.
    pub listen: SocketAddr,
    /// The app.
    pub app: SdkAppId,
    /// Administrators of the app; the first of them acts in the random life.
    pub admins: Vec<String>,
    /// The app's key.
    pub secret_key: SecretKey,
    /// Where callbacks go; none: they are counted as lost.
    pub callback_url: Option<String>,
    /// What signs them; none: they are not signed.
    pub token: Option<Token>,
    /// The knobs at the start.
    pub knobs: Knobs,
    /// Groups that exist before the fake begins.
    pub existing: ExistingGroups,
    /// The random life.
    pub life: LifePlan,
    /// The wall clock.
    pub now: fn() -> Millis,
}

/// A running fake. It stops when it is dropped.
#[derive(Debug)]
pub struct Fake {
    /// Where the REST API listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fake {
    /// Starts it; nothing moves yet.
    ///
    /// # Errors
    /// An occupied port, or an address of callbacks that is none.
    pub async fn start(settings: FakeSettings) -> anyhow::Result<Self> {
        let FakeSettings { listen, app, admins, secret_key, callback_url, token, knobs, existing, life, now } =
            settings;
        let delivery = Delivery::start(callback_url.as_deref(), (app, token), now)?;
        let admin = admins.first().map_or(ADMIN, String::as_str).to_owned();
        let mut world = World::new(app, knobs, life.seed, now);
        existing::add_existing(&mut world, existing);
        let entrance = Entrance::new(app, secret_key, admins);
        let shared = Shared::new(world, entrance, (RandomLife::new(life), delivery), (admin, life.seed));
        let shared = Arc::new(shared);
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let (addr, stop) = (listener.local_addr()?, CancellationToken::new());
        tokio::spawn(http::serve(listener, http::router(Arc::clone(&shared)), stop.clone()));
        Ok(Self { addr, shared, stop })
    }

    /// Gives a command as the administrator, without a signature; service `sdk` is what users do by themselves.
    pub async fn command(&self, service: &str, command: &str, body: &Value) -> Value {
        self.shared.command(service, command, body).await
    }

    /// Makes one change of the random life; false where the fake refused it.
    pub async fn live_once(&self) -> bool {
        self.shared.live_once().await
    }

    /// All groups by their ids, now or at a past moment, in Unix milliseconds, where history is kept.
    #[must_use]
    pub fn state(&self, at_ms: Option<i64>) -> Value {
        door::shown(&self.shared, at_ms)
    }

    /// All changes by their true time, with the callbacks that each caused.
    #[must_use]
    pub fn log(&self) -> Value {
        door::logged(&self.shared)
    }

    /// Changes knobs.
    ///
    /// # Errors
    /// A name that is none, or a value that does not fit.
    pub fn set_knobs(&self, changes: &Value) -> anyhow::Result<()> {
        self.shared.with_world(|world| {
            world.knobs = world.knobs.with(changes)?;
            Ok(())
        })
    }

    /// Freezes the clock at a time in Unix milliseconds; `None`: it is the real one again.
    pub fn freeze(&self, at_ms: Option<i64>) {
        self.shared.with_world(|world| world.clock.freeze(at_ms));
    }

    /// Moves the clock by so many milliseconds.
    pub fn step(&self, by_ms: i64) {
        self.shared.with_world(|world| world.clock.step(by_ms));
    }

    /// How many callbacks were made, lost, answered, failed, and how many wait.
    #[must_use]
    pub fn callbacks(&self) -> Value {
        door::counted(&self.shared)
    }

    /// How often each command that reads was answered since the start.
    #[must_use]
    pub fn reads(&self) -> BTreeMap<String, u64> {
        self.shared.reads()
    }

    /// Waits until no callback is waiting or on its way.
    pub async fn delivered(&self) {
        while door::counted(&self.shared)["waiting"] != 0 {
            tokio::time::sleep(DELIVERED_POLL).await;
        }
    }

    /// Waits until the receiver of the callbacks answers the check of the console.
    pub async fn receiver_answers(&self, pause: Duration) {
        while !self.shared.delivery.is_reachable().await {
            tokio::time::sleep(pause).await;
        }
    }
}
