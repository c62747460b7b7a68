//! What comes in the query of a callback is stored in columns of small types, and read back as it came: by SQL, by the API, by the
//! relay, and where its person is erased.

use std::net::Ipv6Addr;

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::ingest::commit;
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::{Database, outbox};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::erasing::erased;
use crate::support::api::Api;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, histories};

/// `ClientIP`, `OptPlatform`, `RequestID`.
type OfQuery = [Option<String>; 3];

const ADDRESSES: [&str; 14] = [
    "203.0.113.9",
    "2001:db8::1",
    "2001:db8:0:0:0:0:0:1",
    "2001:DB8::A",
    "fe80::1:0:0:2",
    "::1",
    "::",
    "::ffff:1.2.3.4",
    "::1.2.3.4",
    "1.2.3.4/32",
    "01.2.3.4",
    "fe80::1%eth0",
    "10.0.0.1, 203.0.113.9",
    " 203.0.113.9",
];
const PLATFORMS: [&str; 14] = [
    "RESTAPI", "Web", "Android", "iOS", "Windows", "iPad", "macOS", "Mac", "Unknown", "IOS", "android ",
    "Unkown", "3", "NULL",
];
const UUID: &str = "5c0e1a40-9d35-4b0b-8a77-0123456789ab";

/// What fits, what nearly does, nothing, an empty text, the longest one, broken UTF-8 as it is decoded, and any other.
fn values(usual: Vec<String>) -> impl Strategy<Value = Option<String>> {
    let any = prop_oneof!["\\PC{0,40}", "[&=%+\"'\\\\{}\u{1}\n \u{fffd}\0é🦀]{0,12}"];
    let long = select(vec!["x", "é", "\""]).prop_map(|mark| mark.repeat(128 / mark.len()));
    let odd = prop_oneof![Just(String::new()), long, any];
    prop_oneof![1 => Just(None), 4 => select(usual).prop_map(Some), 2 => odd.prop_map(Some)]
}

fn of_query() -> impl Strategy<Value = OfQuery> {
    let texts = |known: &[&str]| known.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let random = any::<[u8; 16]>().prop_map(|bytes| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
    });
    let bare = UUID.replace('-', "");
    let spelled = [UUID, &UUID.to_uppercase(), &bare, &format!("{{{UUID}}}"), &UUID.replace('-', "0")]
        .map(str::to_owned);
    let requests = prop_oneof![random, values(spelled.to_vec())];
    // Runs of zeros of each length and place: PostgreSQL and this program have to shorten the same one.
    let segment = prop_oneof![3 => Just(0_u16), 1 => any::<u16>()];
    let of_ipv6 = proptest::array::uniform8(segment).prop_map(|of| Some(Ipv6Addr::from(of).to_string()));
    let addresses = prop_oneof![of_ipv6, values(texts(&ADDRESSES))];
    (addresses, values(texts(&PLATFORMS)), requests)
        .prop_map(|(ip, platform, request)| [ip, platform, request])
}

/// The `number`th callback, received so many milliseconds later than it could be; every second one has no event time.
fn callback(number: i64, [client_ip, platform, request_id]: OfQuery, later_ms: i64) -> Callback {
    let mut body = json!({"CallbackCommand": "Group.CallbackAfterMemberFieldChanged", "GroupId": format!("g{}", number % 3),
                          "Member_Account": "bo", "NameCard": format!("card {number}"), "Operator_Account": "ana"});
    if number % 2 == 0 {
        body["EventTime"] = json!(histories::BASE_MS + number);
    }
    let received_at = Millis::new(histories::BASE_MS + number + later_ms);
    let received = Received {
        client_ip,
        platform,
        request_id,
        ..Received::bare(SdkAppId::parse(APP).unwrap(), received_at, body.to_string().into_bytes())
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope: {body}") };
    *callback
}

/// As it is stored: text has no NUL.
fn stored(of_query: &OfQuery) -> OfQuery {
    of_query.clone().map(|text| text.map(|text| text.replace('\0', "\u{fffd}")))
}

const VIEW: &str = "SELECT time_ms, client_ip, platform, request_id FROM ledger_entries ORDER BY time_ms";

type ViewRow = (i64, Option<String>, Option<String>, Option<String>);

#[tokio::test]
async fn every_address_platform_and_request_is_read_back_as_it_came_and_goes_as_far_as_it_is_the_persons() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut runner = TestRunner::deterministic();
    let queries: Vec<OfQuery> =
        (0..240).map(|_| of_query().new_tree(&mut runner).unwrap().current()).collect();
    let numbered = || (0..).zip(queries.iter().cloned());
    for later_ms in [0, 1_000] {
        // A repeat is known by its RequestID, whatever its form; without one and without an event time it is no repeat.
        let again =
            numbered().filter(|(number, query)| later_ms == 0 || number % 2 == 0 || query[2].is_some());
        let callbacks: Vec<Callback> =
            again.map(|(number, query)| callback(number, query, later_ms)).collect();
        for batch in callbacks.chunks(if later_ms == 0 { 40 } else { 1 }) {
            assert!(commit(&database, batch).await.iter().all(Result::is_ok));
        }
    }
    let mut conn = test.connect().await;
    let expected: Vec<ViewRow> = numbered()
        .map(|(number, query)| {
            let [client_ip, platform, request_id] = stored(&query);
            (histories::BASE_MS + number, client_ip, platform, request_id)
        })
        .collect();
    let view: Vec<ViewRow> = sqlx::query_as(VIEW).fetch_all(&mut conn).await.unwrap();
    assert_eq!(view, expected);
    let forms: Vec<bool> = sqlx::query_scalar("SELECT DISTINCT odd_values IS NULL FROM ledger")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(forms.len(), 2, "some fit and some do not");

    let keys: Vec<outbox::EntryKey> =
        sqlx::query_as("SELECT sdk_app_id, group_id, time_ms, digest FROM ledger")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let mut kept: Vec<ViewRow> = outbox::requests(&mut conn, &keys)
        .await
        .unwrap()
        .into_iter()
        .map(|kept| (kept.key.time_ms, kept.client_ip, kept.platform, kept.request_id))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, expected);

    let without: Vec<ViewRow> = expected
        .iter()
        .map(|(time, _, platform, request)| (*time, None, platform.clone(), request.clone()))
        .collect();
    erased(&database, "ana", false).await;
    let view: Vec<ViewRow> = sqlx::query_as(VIEW).fetch_all(&mut conn).await.unwrap();
    assert_eq!(view, without, "the addresses are gone, and nothing else");
    let empty: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger WHERE odd_values = '{}'")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(empty, 0);
    database.close().await;
}

#[tokio::test]
async fn the_api_shows_what_came_in_the_query_as_it_came() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut runner = TestRunner::deterministic();
    let queries: Vec<OfQuery> =
        (0..200).map(|_| of_query().new_tree(&mut runner).unwrap().current()).collect();
    let callbacks: Vec<Callback> =
        (0..).zip(&queries).map(|(number, query)| callback(number, query.clone(), 0)).collect();
    assert!(commit(&database, &callbacks).await.iter().all(Result::is_ok));
    database.close().await;
    let api = Api::on(test, Vec::new(), |_| {}).await;
    let mut expected: Vec<Value> = queries.iter().map(|query| json!(stored(query))).collect();
    expected.reverse();
    for path in ["/v1/history?limit=500", "/v1/users/ana/history?limit=500"] {
        let page = api.json(path).await;
        let shown: Vec<Value> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| json!([item["client_ip"], item["platform"], item["request_id"]]))
            .collect();
        assert_eq!(shown, expected, "{path}");
    }
}
