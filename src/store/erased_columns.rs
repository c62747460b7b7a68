//! Every column of the schema that holds text or bytes, and what of a person it may hold: what an erasure has to touch, and
//! where it searches afterwards.
//!
//! A test compares the two lists with the schema, so that a new column has to say what it holds. Columns that are made anew
//! of the ledger need no statement of their own: rebuilding the group writes them.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::model::{SdkAppId, UserId};

/// What of a person a column may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// An id, or a text that may be one as a whole. The tables of the mirror, and the index of people.
    Id,
    /// A JSON object whose keys and values may be ids.
    Object,
    /// Something of an entry of the ledger, of a checkpoint, or of a page that is being read: found and replaced by reading it.
    Entry,
}

/// A column that may hold something of a person: its table, its name, and what it holds.
pub type PersonalColumn = (&'static str, &'static str, Holds);

/// The columns that may hold something of a person.
pub const PERSONAL: &[PersonalColumn] = &[
    ("ledger", "reason", Holds::Entry),
    ("ledger", "client_ip", Holds::Entry),
    ("ledger", "query", Holds::Entry),
    ("ledger", "operator", Holds::Entry),
    ("ledger", "user_id", Holds::Entry),
    ("ledger", "users", Holds::Entry),
    ("ledger", "odd_values", Holds::Entry),
    ("ledger", "body", Holds::Entry),
    ("groups", "name", Holds::Id),
    ("groups", "introduction", Holds::Id),
    ("groups", "notification", Holds::Id),
    ("groups", "face_url", Holds::Id),
    ("groups", "owner", Holds::Id),
    ("groups", "created_by", Holds::Id),
    ("group_members", "user_id", Holds::Id),
    ("group_members", "joined_by", Holds::Id),
    ("group_members", "left_by", Holds::Id),
    ("group_members", "listed_name_card", Holds::Id),
    ("group_members", "custom_fields", Holds::Object),
    ("group_members", "name_card", Holds::Id),
    ("group_user_defined_fields", "key", Holds::Id),
    ("group_user_defined_fields", "value", Holds::Id),
    ("group_attributes", "key", Holds::Id),
    ("group_attributes", "value", Holds::Id),
    ("group_topics", "created_by", Holds::Id),
    ("group_topics", "name", Holds::Id),
    ("group_topics", "introduction", Holds::Id),
    ("group_topics", "notification", Holds::Id),
    ("group_topics", "face_url", Holds::Id),
    ("list_pages", "answer", Holds::Entry),
    ("ledger_people", "user_id", Holds::Id),
    ("checkpoints", "key", Holds::Entry),
    ("checkpoints", "registers", Holds::Entry),
];

/// The columns that hold nothing of a person, by table: ids of groups and topics, words of a grammar, digests, and what is
/// made of a column beside it. Stamps and barriers are none, and are not named.
pub const IMPERSONAL: &[(&str, &[&str])] = &[
    (
        "ledger",
        &[
            "group_id",
            "digest",
            "command",
            "source",
            "outcome",
            "causes",
            "query_command",
            "request_id",
            "content_type",
        ],
    ),
    (
        "groups",
        &[
            "group_id",
            "type",
            "name_caseless",
            "attributes_unclear",
            "topics_unclear",
            "apply_join_option",
            "invite_join_option",
            "earlier_ends",
            "status",
        ],
    ),
    ("group_members", &["group_id", "join_type", "exit_type", "listed_role", "role"]),
    ("group_list_ranges", &["group_id", "range"]),
    ("group_verifications", &["group_id", "status"]),
    ("drift_totals", &["class", "kind"]),
    ("gaps", &["cause"]),
    ("group_user_defined_fields", &["group_id"]),
    ("group_attributes", &["group_id"]),
    ("group_topics", &["group_id", "topic_id"]),
    ("database_identity", &["database_id"]),
    ("feed", &["epoch", "high_watermark_digest"]),
    ("ledger_moves", &["digest"]),
    ("relay_outbox", &["group_id", "digest", "order_key", "failure"]),
    ("relay_skipped", &["group_id", "digest", "failure"]),
    ("reconcile_lease", &["holder", "marked_digest"]),
    ("reconcile_passes", &["kind", "phase", "ids_next", "swept_to", "stopped"]),
    ("group_reads", &["group_id"]),
    ("group_read_digests", &["group_id", "kind", "digest", "entries"]),
    ("group_work", &["group_id", "cause"]),
    ("gone_candidates", &["group_id"]),
    ("list_pages", &["group_id", "mark"]),
    ("ledger_people", &["group_id", "digest"]),
    ("feed_marks", &["digest"]),
    ("checkpoints", &["group_id"]),
    ("prune_state", &["position_digest"]),
    ("erasure_state", &["key"]),
    ("erasures", &["user_hash", "pseudonym"]),
    ("replica_marks", &["replica_id"]),
];

/// How many rows hold something, by table and column.
pub type RowsHolding = BTreeMap<(&'static str, &'static str), u64>;

/// Counts the rows of one app that hold an id in the columns which are made of the ledger, but those of some groups.
///
/// # Errors
/// A statement's.
pub async fn count(
    conn: &mut PgConnection,
    app: SdkAppId,
    user: &UserId,
    but_of: &[String],
) -> Result<RowsHolding, sqlx::Error> {
    let mut found = RowsHolding::new();
    let mut by_table = BTreeMap::<&'static str, Vec<(&'static str, Holds)>>::new();
    for (table, column, holds) in PERSONAL {
        if *holds != Holds::Entry {
            by_table.entry(table).or_default().push((column, *holds));
        }
    }
    for (table, columns) in by_table {
        let conditions: Vec<String> =
            columns.iter().map(|(column, holds)| condition(column, *holds)).collect();
        let counts: Vec<String> =
            conditions.iter().map(|condition| format!("count(*) FILTER (WHERE {condition})")).collect();
        let statement = format!(
            "SELECT ARRAY[{}] FROM {table} WHERE sdk_app_id = $1 AND group_id <> ALL ($3) AND ({})",
            counts.join(", "),
            conditions.join(" OR ")
        );
        let query = sqlx::query_scalar(AssertSqlSafe(statement)).bind(app.get()).bind(user.as_str());
        let counts: Vec<i64> = query.bind(but_of).fetch_one(&mut *conn).await?;
        assert_eq!(counts.len(), columns.len(), "each column is counted");
        let counted = columns.iter().zip(counts);
        found.extend(counted.map(|((column, _), count)| ((table, *column), count.unsigned_abs())));
    }
    Ok(found)
}

fn condition(column: &str, holds: Holds) -> String {
    match holds {
        // What the server writes as JSON is an object of texts, which `Listed::custom_fields_text` has made.
        Holds::Object => format!(
            "EXISTS (SELECT FROM json_each_text({column}::json) AS f (key, value) WHERE $2 IN (f.key, f.value))"
        ),
        Holds::Id | Holds::Entry => format!("{column} = $2"),
    }
}
