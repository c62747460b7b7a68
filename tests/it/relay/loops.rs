//! Mirrors that relay to each other, or to themselves, are noticed.

use super::verdicts::{BEFORE_CREATE, before, in_front_of, target};
use crate::support::raw_backend::{Backend, Sender, allowed};
use crate::support::{API_TOKEN, Service, eventually, settings};

async fn refused_loops(service: &Service) -> u64 {
    let answer =
        service.client.get(service.api_url("/v1/stats")).bearer_auth(API_TOKEN).send().await.unwrap();
    answer.json::<serde_json::Value>().await.unwrap()["refusals"]["by_cause"]["loop"]
        .as_u64()
        .unwrap_or_default()
}

#[tokio::test]
async fn two_mirrors_that_relay_to_each_other_are_noticed_and_refused() {
    // A port that is free by then: the first mirror takes it once the second one runs.
    let port = Backend::start(allowed());
    let first_address = port.address;
    let second = in_front_of(&port, |_| {}).await;
    port.stop().await;
    let mut settings = settings("postgres://nobody@127.0.0.1:1/none?sslmode=disable");
    settings.callback_listen = Some(first_address.to_string());
    settings.relay_url = Some(format!("http://{}/", second.running.callback_addr));
    let first = Service::start_at_once(&settings).await.unwrap();
    let mut sender = Sender::connect(first_address).await;
    let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
    assert_eq!(got.status, 503, "the fallback");
    assert_eq!(
        (refused_loops(&second).await, refused_loops(&first).await),
        (1, 0),
        "the second hop is refused"
    );
    let got = sender.post(&target("State.StateChange"), "", &before("State.StateChange")).await;
    assert_eq!(got.status, 200);
    assert!(eventually(async || refused_loops(&second).await == 2).await);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_mirror_without_a_backend_may_stand_behind_another() {
    let behind = Service::start_at_once(&settings("postgres://nobody@127.0.0.1:1/none?sslmode=disable"))
        .await
        .unwrap();
    let mut settings = settings("postgres://nobody@127.0.0.1:1/none?sslmode=disable");
    settings.relay_url = Some(format!("http://{}/callback", behind.running.callback_addr));
    let front = Service::start_at_once(&settings).await.unwrap();
    let mut sender = Sender::connect(front.running.callback_addr).await;
    let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
    assert_eq!((got.status, got.text()), (200, crate::support::OK));
    front.stop().await;
    behind.stop().await;
}

#[tokio::test]
async fn the_own_listener_as_a_backend_ends_the_start() {
    let free = Backend::start(allowed());
    let address = free.address;
    free.stop().await;
    let mut settings = settings("postgres://nobody@127.0.0.1:1/none?sslmode=disable");
    settings.callback_listen = Some(address.to_string());
    for host in ["127.0.0.1", "localhost"] {
        settings.relay_url = Some(format!("http://{host}:{}/callback", address.port()));
        let error = Service::start_at_once(&settings).await.err().expect("refused").to_string();
        assert!(error.contains("RELAY_URL of app 1400000001") && error.contains("own listener"), "{error}");
    }
}
