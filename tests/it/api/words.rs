//! PostgreSQL refuses in several ways, and none of its words is in any answer: not to readers, not in the feed, not to Tencent.

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::reads::created;
use crate::support::api::after;
use crate::support::{API_TOKEN, App, eventually};

/// Everything that PostgreSQL is made to say has this in it.
const SECRET: &str = "zebra";

/// Words of the driver, and of PostgreSQL where it is not in another language.
const WORDS: [&str; 16] = [
    SECRET,
    "database:",
    "violates",
    "relation",
    "constraint \"",
    "index row",
    "byte sequence",
    "permission denied",
    "error returned",
    "sqlstate",
    "sqlx",
    "pg_",
    "psql",
    "postgres",
    "statement timeout",
    "ledger_",
];

fn assert_no_words(place: &str, text: &str) {
    let text = text.to_lowercase();
    for word in WORDS {
        assert!(!text.contains(word), "{place} says {word:?}: {text}");
    }
}

/// Not the internal `/readyz`: its reasons are for the operator, and name what the program is set up with.
const PATHS: [&str; 11] = [
    "/v1/groups",
    "/v1/groups?with=member_count&status=all",
    "/v1/groups/g",
    "/v1/groups/g/members",
    "/v1/groups/g/members?at=2030-01-01T00:00:00Z",
    "/v1/groups/g/topics",
    "/v1/groups/g/history",
    "/v1/users/ana/groups",
    "/v1/parked",
    "/v1/changes",
    "/v1/stats",
];

/// Asks every path and returns the answers that are no 200.
async fn read_everything(app: &App, when: &str) -> Vec<(String, u16)> {
    let mut failed = Vec::new();
    for path in PATHS {
        let answer =
            app.service.client.get(app.service.api_url(path)).bearer_auth(API_TOKEN).send().await.unwrap();
        let status = answer.status().as_u16();
        if status != 200 {
            failed.push((path.to_owned(), status));
        }
        for (name, value) in answer.headers() {
            assert_no_words(&format!("{when}: header {name} of {path}"), value.to_str().unwrap());
        }
        assert_no_words(&format!("{when}: {path}"), &answer.text().await.unwrap());
    }
    let public = format!("http://{}/readyz", app.service.running.callback_addr);
    assert_no_words(when, &app.service.client.get(public).send().await.unwrap().text().await.unwrap());
    failed
}

/// Refusals of every kind that are the data's fault: a check, a unique value, a trigger that raises a data exception, a
/// key that is too long for an index.
const REFUSE: &str = "
ALTER TABLE groups ADD CONSTRAINT zebra_check CHECK (name <> 'check');
CREATE UNIQUE INDEX zebra_unique ON groups (name) WHERE name LIKE 'unique%';
CREATE INDEX zebra_long ON groups (introduction);
CREATE FUNCTION zebra() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name = 'raise' THEN RAISE data_exception USING MESSAGE = 'zebra is in row ' || NEW.owner; END IF;
    IF NEW.name = 'encoding' THEN RAISE EXCEPTION 'zebra' USING ERRCODE = '22021'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER zebra BEFORE INSERT OR UPDATE ON groups FOR EACH ROW EXECUTE FUNCTION zebra()";

#[tokio::test]
async fn no_word_of_the_database_is_in_any_answer_when_it_refuses_the_data() {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    app.service.taken(&created("first", 0, "unique", json!({}))).await;
    app.connect().await.execute(REFUSE).await.unwrap();
    // What cannot be compressed does not fit into an index.
    let long: String =
        (0..1_500_u32).map(|n| char::from_u32(0x4e00 + n.wrapping_mul(7_919) % 20_000).unwrap()).collect();
    for (body, words) in [
        (
            after("GroupInfoChanged", "g", 1, json!({"Name": "check"})),
            "a row that a constraint does not allow",
        ),
        (
            after("GroupInfoChanged", "g", 2, json!({"Name": "unique"})),
            "a row that a constraint does not allow",
        ),
        (after("GroupInfoChanged", "g", 3, json!({"Name": "raise"})), "a value that its column cannot hold"),
        (
            after("GroupInfoChanged", "g", 4, json!({"Name": "encoding"})),
            "a character that its encoding does not have",
        ),
        (
            after("GroupInfoChanged", "g", 5, json!({"Introduction": long})),
            "a key that is too long for its index",
        ),
    ] {
        let reason = app.service.parked(&body.to_string()).await;
        assert_eq!(reason, format!("the database refuses it: {words}"), "{body}");
    }
    assert_eq!(read_everything(&app, "parked").await, []);
    let parked = app.service.read("/v1/parked?cause=refused_by_database").await;
    let reasons: Vec<_> =
        parked["items"].as_array().unwrap().iter().map(|entry| entry["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 5);
    assert!(reasons.iter().all(|reason| reason.starts_with("the database refuses it: ")), "{reasons:?}");
    app.stop().await;
}

#[tokio::test]
async fn no_word_of_the_database_is_in_any_answer_when_it_refuses_reads_and_writes() {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    let mut conn = app.connect().await;
    conn.execute("ALTER TABLE group_members RENAME TO zebra").await.unwrap();
    conn.execute("ALTER TABLE ledger RENAME COLUMN client_ip TO zebra").await.unwrap();
    let failed = read_everything(&app, "renamed").await;
    assert!(failed.contains(&("/v1/groups/g/history".to_owned(), 500)), "{failed:?}");
    let body = after("NewMemberJoin", "g", 1, json!({"NewMemberList": [{"Member_Account": "bo"}]}));
    let answer = app.service.post("Group.CallbackAfterNewMemberJoin", body.to_string()).await;
    assert_no_words("the answer to a sender", &answer.text().await.unwrap());
    let lists = ["/v1/groups", "/v1/groups/g/members", "/v1/groups/g/history", "/v1/users/ana/groups"];
    app.database.refuse_connections().await;
    assert!(
        eventually(async || {
            let failed = read_everything(&app, "away").await;
            lists.iter().all(|list| failed.contains(&((*list).to_owned(), 503)))
        })
        .await
    );
    let stats =
        app.service.client.get(app.service.api_url("/v1/stats")).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(stats.json::<Value>().await.unwrap()["database_available"], false);
    app.stop().await;
}
