//! Pauses in the traffic of a proxy with its pool: the proxy closes an idle connection first, so no callback meets a close.
//!
//! The ordinary run shortens all times alike. `LONG_PAUSES=1` takes the default times of proxies and service, and pauses
//! around 30 and 60 s, at which hyper's and the proxies' own time-outs lie.

use crate::durability::restart::{DeployedProxy, Restarted, assert_none_lost};
use crate::support::load::Load;
use crate::support::postgres::TestDatabase;

/// Callbacks on each side of a pause: in an ordinary run, and in a long one, which sends 10,000 in all.
const BURST: u64 = 100;
const LONG_BURST: u64 = 2_000;

async fn pauses_behind(proxy: &str) {
    let long = std::env::var_os("LONG_PAUSES").is_some();
    let pauses: &[f64] = if long { &[29.97, 30.0, 59.95, 60.0] } else { &[0.95, 1.0, 1.9, 2.0, 2.1] };
    let database = TestDatabase::create().await;
    let mut place = Restarted::new(&database);
    place.idle_secs = (!long).then(|| "4".to_owned());
    let service = place.start().await;
    // The shipped file names two services; here both are one, so that no second one hides a loss, and nothing is sent twice.
    let change = |text: String| {
        let text = text.replace(" non_idempotent", "").replace("retries 3", "retries 0");
        let text = text.replace("    retry-on conn-failure empty-response response-timeout 503\n", "");
        if long {
            return text;
        }
        text.replace("keepalive_timeout 60s", "keepalive_timeout 2s")
            .replace("timeout server 1600ms", "timeout server 2s")
            .replace("timeout http-keep-alive 60s", "timeout http-keep-alive 2s")
    };
    let Some(proxy) = DeployedProxy::start(proxy, [place.port; 2], change).await else { return };
    let load =
        Load::with_bursts(&proxy.target, "after-a-pause", 20, if long { LONG_BURST } else { BURST }, pauses)
            .await;
    service.ends_well_on("TERM").await;
    assert_none_lost(&database, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_around_the_idle_time_of_nginx_lose_nothing() {
    pauses_behind("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_around_the_idle_time_of_haproxy_lose_nothing() {
    pauses_behind("haproxy").await;
}
