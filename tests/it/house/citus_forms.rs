//! The forms of statements that Citus refuses on distributed tables, as far as this program could use them: a closed list,
//! and which of them a text has.
//!
//! Of docs.citusdata.com ("SQL support and workarounds"), of what Citus itself answers, and of statements of this program that were run on
//! Citus 13.2 by hand. A text is looked at word by word. A hole of `format!` counts as a distributed table.

/// The tables that are cut by `group_id`, and the views that read them.
pub(super) const DISTRIBUTED: [&str; 10] = [
    "checkpoints",
    "group_attributes",
    "group_list_ranges",
    "group_members",
    "group_topics",
    "group_user_defined_fields",
    "group_verifications",
    "groups",
    "ledger",
    "ledger_people",
];

pub(super) const VIEWS: [&str; 10] = [
    "active_group_attributes",
    "active_group_members",
    "active_group_topics",
    "active_group_user_defined_fields",
    "active_groups",
    "group_member_states",
    "group_names",
    "group_states",
    "group_topic_states",
    "ledger_entries",
];

/// The tables that stay where they are, on the coordinator: one row, a few rows for each app, or a queue of work.
pub(super) const LOCAL: [&str; 21] = [
    "database_identity",
    "drift_totals",
    "erasure_state",
    "erasures",
    "feed",
    "feed_marks",
    "gaps",
    "gone_candidates",
    "group_read_digests",
    "group_reads",
    "group_work",
    "id_list_passes",
    "ledger_moves",
    "list_pages",
    "prune_state",
    "reconcile_lease",
    "reconcile_passes",
    "relay_outbox",
    "relay_skipped",
    "replica_marks",
    // `create_reference_table` gives each server a copy, so that a service on a worker finds its schema.
    "_sqlx_migrations",
];

/// One form that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// A volatile function, or the `DEFAULT` of a sequence, in an UPDATE or DELETE.
    VolatileInUpdate,
    /// An UPDATE of the column that says in which shard a row stands.
    GroupChanged,
    /// Rows locked by a SELECT that does not name one group.
    RowsLockedOverGroups,
    /// A LATERAL sub-select of a distributed table, for each row of something that is none.
    Lateral,
    /// A sub-select of a distributed table in a list of columns, for each row of what has a LIMIT, or is grouped.
    SubSelectOverLimit,
    /// A correlated sub-select that does not name the group.
    CorrelatedWithoutGroup,
    /// INSERT, UPDATE or DELETE inside WITH.
    ModifyingWith,
    /// An UPDATE or DELETE of a local table by what a distributed one holds.
    LocalByDistributed,
    /// A sub-select in the VALUES or the RETURNING of an INSERT.
    SubSelectInInsert,
    /// WITH RECURSIVE.
    Recursive,
    /// TABLESAMPLE, GROUPING SETS, ROLLUP, CUBE, WHERE CURRENT OF.
    Rare,
    /// Plans for values that are not known.
    GenericPlan,
    /// CREATE INDEX beside another statement in one text.
    IndexBesideOthers,
}

/// The words of a statement: names, keywords, numbers, marks, and texts with their quotes; without comments.
pub(super) fn words(text: &str) -> Vec<String> {
    let marks: Vec<char> = text.chars().collect();
    let (mut words, mut at) = (Vec::new(), 0);
    let until = |mut at: usize, ends: &dyn Fn(char) -> bool| {
        while at < marks.len() && !ends(marks[at]) {
            at += 1;
        }
        at
    };
    while at < marks.len() {
        let begin = at;
        match marks[at] {
            '-' if marks.get(at + 1) == Some(&'-') => {
                at = until(at, &|mark| mark == '\n');
                continue;
            }
            '\'' => at = (until(at + 1, &|mark| mark == '\'') + 1).min(marks.len()),
            '{' => {
                at = (until(at + 1, &|mark| mark == '}') + 1).min(marks.len());
                words.push("{}".to_owned());
                continue;
            }
            mark if mark.is_alphanumeric() || mark == '_' || mark == '$' => {
                at = until(at, &|mark| !(mark.is_alphanumeric() || mark == '_' || mark == '$'));
            }
            mark => {
                at += 1;
                if mark.is_whitespace() {
                    continue;
                }
            }
        }
        words.push(marks[begin..at].iter().collect());
    }
    words
}

/// Where a list in parentheses ends that begins at a place; the end of the text where it does not end.
fn end_of(words: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.as_str() {
            "(" => depth += 1,
            ")" => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    words.len()
}

fn has(words: &[String], wanted: &[&str]) -> bool {
    !wanted.is_empty() && words.windows(wanted.len()).any(|some| some.iter().eq(wanted))
}

fn is_distributed(name: &str) -> bool {
    name == "{}" || DISTRIBUTED.contains(&name) || VIEWS.contains(&name)
}

/// Whether a distributed table is read or written, by the words before its name.
fn touches(words: &[String]) -> bool {
    let begins = ["FROM", "JOIN", "INTO", "UPDATE", "USING", "ONLY"];
    let named = |pair: &[String]| begins.contains(&pair[0].as_str()) && is_distributed(&pair[1]);
    words.windows(2).any(named)
}

/// The sub-selects: each `( SELECT … )`, with the place where it begins.
fn sub_selects(words: &[String]) -> impl Iterator<Item = (usize, &[String])> {
    let begins = |at: &usize| words[*at] == "(" && words.get(at + 1).is_some_and(|word| word == "SELECT");
    (0..words.len()).filter(begins).map(|at| (at, &words[at + 1..end_of(words, at)]))
}

/// The words between two at the level on which the first stands.
fn part<'a>(words: &'a [String], begin: &str, ends: &[&str]) -> &'a [String] {
    let mut depth = 0;
    let is_begin = |word: &String| {
        depth += i32::from(word == "(") - i32::from(word == ")");
        depth == 0 && word == begin
    };
    let Some(from) = words.iter().position(is_begin) else { return &[] };
    let (mut at, mut depth) = (from + 1, 0);
    while at < words.len() {
        match words[at].as_str() {
            "(" => depth += 1,
            ")" if depth == 0 => break,
            ")" => depth -= 1,
            word if depth == 0 && ends.contains(&word) => break,
            _ => {}
        }
        at += 1;
    }
    &words[from + 1..at]
}

fn volatile_in_update(words: &[String]) -> bool {
    const VOLATILE: [&str; 7] = [
        "nextval",
        "random",
        "clock_timestamp",
        "gen_random_uuid",
        "timeofday",
        "set_config",
        "pg_advisory_xact_lock",
    ];
    let first = words.first().map_or("", String::as_str);
    let target = words.iter().skip(1).find(|word| !["FROM", "ONLY"].contains(&word.as_str()));
    ["UPDATE", "DELETE"].contains(&first)
        && target.is_some_and(|name| is_distributed(name))
        && (has(words, &["=", "DEFAULT"]) || words.iter().any(|word| VOLATILE.contains(&word.as_str())))
}

fn group_changed(words: &[String]) -> bool {
    let of_table = words.windows(2).any(|pair| pair[0] == "UPDATE" && is_distributed(&pair[1]));
    of_table && has(part(words, "SET", &["WHERE", "FROM", "RETURNING"]), &["group_id", "="])
}

fn locks_rows(words: &[String]) -> bool {
    let locks = [&["FOR", "UPDATE"][..], &["FOR", "SHARE"], &["FOR", "NO", "KEY"], &["FOR", "KEY", "SHARE"]];
    let is_of_one =
        words.windows(3).any(|three| three[0] == "group_id" && three[1] == "=" && three[2].starts_with('$'));
    touches(words) && locks.iter().any(|lock| has(words, lock)) && !is_of_one
}

fn lateral(words: &[String]) -> bool {
    let begins = |at: &usize| words[*at] == "LATERAL" && words.get(at + 1).is_some_and(|word| word == "(");
    (0..words.len()).filter(begins).any(|at| {
        let body = &words[at + 1..end_of(words, at + 1)];
        body.get(1).is_some_and(|word| word == "SELECT") && touches(body)
    })
}

fn sub_select_over_limit(words: &[String]) -> bool {
    let of = |select: &[String]| {
        let (columns, from) =
            (part(select, "SELECT", &["FROM"]), part(select, "FROM", &["WHERE", "ORDER", "GROUP", "UNION"]));
        let is_limited = sub_selects(from)
            .any(|(_, sub)| ["LIMIT", "OFFSET", "GROUP", "FETCH"].iter().any(|word| has(sub, &[word])));
        is_limited && sub_selects(columns).any(|(_, sub)| touches(sub))
    };
    of(words) || sub_selects(words).any(|(_, sub)| of(sub))
}

fn correlated_without_group(words: &[String]) -> bool {
    sub_selects(words).any(|(at, sub)| {
        let is_lateral = at > 0 && words[at - 1] == "LATERAL";
        // A name that stands alone is the table or its alias here; one that only qualifies a column comes from outside.
        let is_alone = |name: &String| {
            (0..sub.len()).any(|at| sub[at] == *name && sub.get(at + 1).is_none_or(|next| next != "."))
        };
        let qualifies =
            |at: &usize| sub.get(at + 1).is_some_and(|next| next == ".") && *at > 0 && sub[at - 1] != ".";
        let is_word = |name: &String| name.starts_with(char::is_alphabetic) && name != "excluded";
        let is_correlated =
            (0..sub.len()).filter(qualifies).any(|at| is_word(&sub[at]) && !is_alone(&sub[at]));
        let names_group = sub.windows(2).any(|pair| pair[0] == "group_id" && pair[1] == "=")
            || sub.windows(2).any(|pair| pair[0] == "=" && pair[1] == "group_id")
            || sub.windows(4).any(|four| four[0] == "=" && four[2] == "." && four[3] == "group_id");
        !is_lateral && touches(sub) && is_correlated && !names_group
    })
}

fn modifying_with(words: &[String]) -> bool {
    let begins = |at: &usize| {
        words[*at] == "AS"
            && words.get(at + 1).is_some_and(|word| word == "(")
            && words.get(at + 2).is_some_and(|word| ["INSERT", "UPDATE", "DELETE"].contains(&word.as_str()))
    };
    touches(words) && (0..words.len()).any(|at| begins(&at))
}

fn local_by_distributed(words: &[String]) -> bool {
    let first = words.first().map_or("", String::as_str);
    let target = words.iter().skip(1).find(|word| !["FROM", "ONLY"].contains(&word.as_str()));
    ["UPDATE", "DELETE"].contains(&first)
        && target.is_some_and(|name| LOCAL.contains(&name.as_str()))
        && touches(words)
}

fn sub_select_in_insert(words: &[String]) -> bool {
    let of_table = words.windows(2).any(|pair| pair[0] == "INTO" && is_distributed(&pair[1]));
    let parts = [part(words, "RETURNING", &[]), part(words, "VALUES", &["ON", "RETURNING"])];
    words.first().is_some_and(|word| word == "INSERT")
        && of_table
        && parts.iter().any(|part| sub_selects(part).next().is_some())
}

fn index_beside_others(text: &str) -> bool {
    let words = words(text);
    let inside = words.iter().rposition(|word| word != ";").map_or(0, |last| last + 1);
    let is_index = has(&words, &["CREATE", "INDEX"]) || has(&words, &["CREATE", "UNIQUE", "INDEX"]);
    is_index && words[..inside].iter().any(|word| word == ";")
}

/// The forms that a text has.
pub(super) fn forms(text: &str) -> Vec<Form> {
    let words = words(text);
    let rare = [&["TABLESAMPLE"][..], &["GROUPING", "SETS"], &["ROLLUP"], &["CUBE"], &["CURRENT", "OF"]];
    let found = [
        (Form::VolatileInUpdate, volatile_in_update(&words)),
        (Form::GroupChanged, group_changed(&words)),
        (Form::RowsLockedOverGroups, locks_rows(&words)),
        (Form::Lateral, lateral(&words)),
        (Form::SubSelectOverLimit, sub_select_over_limit(&words)),
        (Form::CorrelatedWithoutGroup, correlated_without_group(&words)),
        (Form::ModifyingWith, modifying_with(&words)),
        (Form::LocalByDistributed, local_by_distributed(&words)),
        (Form::SubSelectInInsert, sub_select_in_insert(&words)),
        (Form::Recursive, touches(&words) && has(&words, &["WITH", "RECURSIVE"])),
        (Form::Rare, touches(&words) && rare.iter().any(|form| has(&words, form))),
        (
            Form::GenericPlan,
            text.contains("force_generic_plan") && !text.contains("{}") && !text.contains("HAS_CITUS"),
        ),
        (Form::IndexBesideOthers, index_beside_others(text)),
    ];
    found.into_iter().filter(|(_, is_there)| *is_there).map(|(form, _)| form).collect()
}

/// A form, a statement that has it, and one beside it that Citus takes.
const EXAMPLES: [(Form, &str, &str); 18] = [
    (
        Form::VolatileInUpdate,
        "UPDATE ledger SET position = DEFAULT WHERE group_id = $1",
        "UPDATE ledger SET position = $2 WHERE group_id = $1",
    ),
    (
        Form::VolatileInUpdate,
        "UPDATE ledger l SET position = nextval('s')",
        "UPDATE feed SET position = nextval('s')",
    ),
    (
        Form::VolatileInUpdate,
        "DELETE FROM groups WHERE random() < 0.1",
        "DELETE FROM groups WHERE updated_at < now()",
    ),
    (
        Form::GroupChanged,
        "UPDATE ledger SET time_ms = $1, group_id = $2 WHERE digest = $3",
        "UPDATE ledger SET time_ms = $1 WHERE group_id = $2",
    ),
    (
        Form::RowsLockedOverGroups,
        "SELECT FROM groups WHERE group_id > $1 FOR UPDATE",
        "SELECT FROM groups WHERE group_id = $1 FOR UPDATE",
    ),
    (
        Form::RowsLockedOverGroups,
        "SELECT FROM {} WHERE sdk_app_id = $1 FOR NO KEY UPDATE",
        "SELECT FROM prune_state FOR UPDATE",
    ),
    (
        Form::Lateral,
        "SELECT * FROM k CROSS JOIN LATERAL (SELECT * FROM groups g WHERE g.group_id = k.id) p",
        "SELECT * FROM ledger l CROSS JOIN LATERAL UNNEST(l.causes) c",
    ),
    (
        Form::SubSelectOverLimit,
        "SELECT (SELECT count(*) FROM group_members m WHERE m.group_id = p.group_id) FROM (SELECT * FROM groups LIMIT 5) p",
        "SELECT (SELECT count(*) FROM group_members m WHERE m.group_id = p.group_id) FROM groups p LIMIT 5",
    ),
    (
        Form::CorrelatedWithoutGroup,
        "SELECT FROM groups g WHERE EXISTS (SELECT FROM group_members m WHERE m.user_id = g.owner)",
        "SELECT FROM groups g WHERE EXISTS (SELECT FROM group_members m WHERE m.group_id = g.group_id AND m.user_id = g.owner)",
    ),
    (
        Form::ModifyingWith,
        "WITH gone AS (DELETE FROM groups RETURNING *) SELECT count(*) FROM gone",
        "WITH some AS (SELECT * FROM groups) SELECT count(*) FROM some",
    ),
    (
        Form::LocalByDistributed,
        "UPDATE feed SET high_watermark = $1 WHERE NOT EXISTS (SELECT FROM ledger)",
        "UPDATE feed SET high_watermark = $1 WHERE NOT EXISTS (SELECT FROM prune_state)",
    ),
    (
        Form::SubSelectInInsert,
        "INSERT INTO ledger (position) VALUES ($1) RETURNING (SELECT version FROM erasure_state)",
        "INSERT INTO ledger (position) SELECT $1 RETURNING position",
    ),
    (
        Form::SubSelectInInsert,
        "INSERT INTO groups (owner) VALUES ((SELECT owner FROM x))",
        "INSERT INTO gaps (cause) VALUES ((SELECT cause FROM x))",
    ),
    (
        Form::Recursive,
        "WITH RECURSIVE r AS (SELECT * FROM groups) SELECT * FROM r",
        "WITH RECURSIVE r AS (SELECT * FROM feed) SELECT * FROM r",
    ),
    (Form::Rare, "SELECT count(*) FROM groups TABLESAMPLE system (1)", "SELECT count(*) FROM groups"),
    (
        Form::Rare,
        "SELECT type, count(*) FROM groups GROUP BY ROLLUP (type)",
        "SELECT type, count(*) FROM groups GROUP BY type",
    ),
    (Form::GenericPlan, "SET plan_cache_mode = force_generic_plan", "SET plan_cache_mode = auto"),
    (
        Form::IndexBesideOthers,
        "CREATE INDEX a ON groups (name); COMMENT ON INDEX a IS 'x';",
        "CREATE INDEX a ON groups (name);",
    ),
];

#[test]
fn each_form_is_found_in_an_example_and_not_in_its_neighbour() {
    for (form, refused, taken) in EXAMPLES {
        assert!(forms(refused).contains(&form), "{form:?} is not found in: {refused}");
        assert!(!forms(taken).contains(&form), "{form:?} is found in: {taken}");
    }
}

#[test]
fn comments_and_texts_of_a_statement_are_no_forms() {
    assert_eq!(forms("SELECT 'a; CREATE INDEX' FROM groups -- FOR UPDATE\n WHERE sdk_app_id = $1"), []);
}
