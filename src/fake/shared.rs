//! What all parts of the running fake share: the world, the checks at the entrance, the delivery.
//!
//! A command goes through [`Shared::act`], whether it comes by HTTP, from the random life or from a test: the
//! before-callback is waited for without the world's lock, the change is made under it, and its callbacks are handed to
//! the delivery in the order of the changes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::before;
use super::code::{AskedBody, FakeCode};
use super::delivery::Delivery;
use super::dispatch::{self, answer};
use super::entrance::Entrance;
use super::life::RandomLife;
use super::world::{Actor, World};

/// The parts.
#[derive(Debug)]
pub(super) struct Shared {
    world: Mutex<World>,
    entrance: Mutex<Entrance>,
    life: Mutex<RandomLife>,
    pub(super) delivery: Delivery,
    /// Held from a change until its callbacks are handed over, so that they keep the order of the changes; and the chance
    /// of the delivery.
    handing_over: tokio::sync::Mutex<fastrand::Rng>,
    admin: String,
    /// How often each command that reads was answered.
    reads: Mutex<BTreeMap<String, u64>>,
}

fn with<T, R>(mutex: &Mutex<T>, act: impl FnOnce(&mut T) -> R) -> R {
    act(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Shared {
    pub(super) fn new(
        world: World,
        entrance: Entrance,
        (life, delivery): (RandomLife, Delivery),
        (admin, seed): (String, u64),
    ) -> Self {
        Self {
            world: Mutex::new(world),
            entrance: Mutex::new(entrance),
            life: Mutex::new(life),
            delivery,
            // Not the seed of the world, so that more faults do not change what happens.
            handing_over: tokio::sync::Mutex::new(fastrand::Rng::with_seed(seed ^ 0xde11)),
            admin,
            reads: Mutex::default(),
        }
    }

    pub(super) fn with_world<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        with(&self.world, act)
    }

    pub(super) fn with_entrance<R>(&self, act: impl FnOnce(&mut Entrance) -> R) -> R {
        with(&self.entrance, act)
    }

    /// Carries a command out.
    pub(super) async fn act(
        &self,
        (service, command): (&str, &str),
        body: &Map<String, Value>,
        actor: Actor<'_>,
    ) -> Result<Map<String, Value>, FakeCode> {
        let body = AskedBody(body);
        let asked = self.with_world(|world| {
            let question = before::question(world, command, body, actor);
            question.map(|question| (question, world.knobs.before_blocks))
        });
        let mut refused = Vec::new();
        if let Some(((name, question), blocks)) = asked {
            let said = self.delivery.ask(name, question, actor.platform).await;
            refused = before::verdict(said.as_ref(), blocks)?;
        }
        if command.starts_with("get_") {
            with(&self.reads, |reads| *reads.entry(command.to_owned()).or_default() += 1);
            return self.with_world(|world| answer(world, (service, command), body, actor, &refused));
        }
        let mut chance = self.handing_over.lock().await;
        let (result, outgoing, knobs) = self.with_world(|world| {
            let result = answer(world, (service, command), body, actor, &refused);
            (result, std::mem::take(&mut world.outgoing), world.knobs.clone())
        });
        self.delivery.hand_over(outgoing, &knobs, &mut chance).await;
        result
    }

    /// How often each command that reads was answered.
    pub(super) fn reads(&self) -> BTreeMap<String, u64> {
        with(&self.reads, |reads| reads.clone())
    }

    /// One change of the random life; false where it was refused.
    pub(super) async fn live_once(&self) -> bool {
        let (service, command, body) = self.with_world(|world| with(&self.life, |life| life.next(world)));
        let Value::Object(body) = body else { unreachable!("a deed has an object") };
        let actor = Actor { account: &self.admin, platform: "RESTAPI" };
        self.act((service, command), &body, actor).await.is_ok()
    }

    /// A command as the administrator gives it, or as a user does where the service is `sdk`.
    pub(super) async fn command(&self, service: &str, command: &str, body: &Value) -> Value {
        let Some(body) = body.as_object() else {
            return json!({ "ErrorCode": 60003, "ErrorInfo": "the body is no object" });
        };
        let service = if service.is_empty() { dispatch::GROUPS } else { service };
        let actor = Actor { account: &self.admin, platform: "RESTAPI" };
        match self.act((service, command), body, actor).await {
            Ok(mut answer) => {
                answer.insert("ErrorCode".to_owned(), json!(0));
                Value::Object(answer)
            }
            Err(code) => json!({ "ErrorCode": code.code, "ErrorInfo": code.info }),
        }
    }
}
