//! Which statements of the program Citus would take: every text of SQL in `src` and every later migration is held against the
//! list of forms that it refuses (`citus_forms`). What has such a form all the same stands here, with the reason.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::citus_forms::{Form, forms, words};
use super::sources::{Source, sources};

/// A text of SQL in the sources.
struct Statement {
    file: String,
    /// The constant or the function in which it stands.
    item: String,
    text: String,
}

/// What stands between the quotes of a literal of Rust.
fn unquoted(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('r') {
        return Some(raw.trim_matches('#').trim_matches('"').to_owned());
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    let (mut text, mut marks) = (String::new(), inner.chars().peekable());
    while let Some(mark) = marks.next() {
        if mark != '\\' {
            text.push(mark);
            continue;
        }
        match marks.next() {
            Some('n') => text.push('\n'),
            Some('\n') => while marks.next_if(|mark| mark.is_whitespace()).is_some() {},
            Some(other) => text.push(other),
            None => {}
        }
    }
    Some(text)
}

/// A text is SQL where it begins with a verb of SQL, or has a clause of it.
fn is_sql(text: &str) -> bool {
    const VERBS: [&str; 9] =
        ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "LOCK", "MERGE", "TRUNCATE", "SET"];
    const CLAUSES: [&str; 7] = ["SELECT", "FROM", "WHERE", "LATERAL", "RETURNING", "UPDATE", "GROUP"];
    let words = words(text);
    let is_long = words.len() > 2;
    is_long
        && words
            .first()
            .is_some_and(|first| VERBS.contains(&first.as_str()) || first == "CREATE" || first == "ALTER")
        || words.iter().any(|word| CLAUSES.contains(&word.as_str()))
        || text.contains("force_generic_plan")
}

fn collect(source: &Source, tokens: TokenStream, item: &mut String, found: &mut Vec<Statement>) {
    let mut before = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(source, group.stream(), item, found),
            TokenTree::Ident(name) => {
                if ["const", "static", "fn"].contains(&before.as_str()) {
                    *item = name.to_string();
                }
                before = name.to_string();
            }
            TokenTree::Literal(literal) => {
                let text = unquoted(&literal.to_string()).filter(|text| is_sql(text));
                found.extend(text.map(|text| Statement {
                    file: source.path.clone(),
                    item: item.clone(),
                    text,
                }));
            }
            TokenTree::Punct(_) => {}
        }
    }
}

/// Every text of SQL in the sources.
fn statements() -> Vec<Statement> {
    let mut found = Vec::new();
    for source in sources("src") {
        collect(&source, source.tokens(), &mut String::new(), &mut found);
    }
    found
}

/// A file, the constant or the function in it, and a form that its statement has.
type Named = (&'static str, &'static str, Form);

/// Each table in it is asked for one group. Citus sends such a statement to its shard as it is where it sees that; whether it does behind
/// the views, which look at other rows of the group by sub-selects, was not run.
const OF_ONE_GROUP: [Named; 4] = [
    ("store/member_list.rs", "of_group_statement", Form::Lateral),
    ("store/members.rs", "find_statement", Form::Lateral),
    ("store/moments.rs", "VALUES", Form::Lateral),
    ("store/topics.rs", "OF_GROUP", Form::Lateral),
];

/// A server with Citus gets another form in its place (`store/citus.rs`). The plain forms of lists keep plans that depend neither on
/// statistics nor on the size of a table.
const OTHERWISE_ON_CITUS: [Named; 12] = [
    ("store/app_history.rs", "ENTRIES_OF_USER", Form::Lateral),
    ("store/entry_door.rs", "INSERT", Form::SubSelectInInsert),
    ("store/group_list.rs", "keys_in_order", Form::Lateral),
    ("store/group_list.rs", "keys_of_matches", Form::Lateral),
    ("store/group_list.rs", "select_by_keys", Form::Lateral),
    ("store/members.rs", "of_user_statement", Form::CorrelatedWithoutGroup),
    ("store/members.rs", "of_user_statement", Form::Lateral),
    ("store/pools.rs", "of", Form::GenericPlan),
    ("store/rebuild.rs", "LOCK_GROUPS", Form::RowsLockedOverGroups),
    ("store/session.rs", "PLANNED_ONCE", Form::GenericPlan),
    ("store/session.rs", "feed", Form::GenericPlan),
    ("store/sights.rs", "MEANS", Form::Lateral),
];

/// What does not run on Citus, as docs/citus.md names it, with its statements.
const REFUSED: [(&str, &[Named]); 3] = [
    (
        "a relay",
        &[
            ("store/entry_door.rs", "INSERT_WITH_OUTBOX", Form::ModifyingWith),
            ("store/outbox.rs", "WAITING", Form::CorrelatedWithoutGroup),
            ("store/outbox.rs", "WAITING", Form::SubSelectOverLimit),
            ("store/outbox_report.rs", "AGAIN", Form::ModifyingWith),
        ],
    ),
    (
        "`reconcile`, `backfill` and gaps",
        &[
            ("store/evidence.rs", "PRESENT", Form::Lateral),
            ("store/evidence.rs", "RECENT", Form::Lateral),
            ("store/gaps.rs", "CLOSE", Form::CorrelatedWithoutGroup),
            ("store/gaps.rs", "CLOSE", Form::LocalByDistributed),
            ("store/held.rs", "LOCK", Form::RowsLockedOverGroups),
            ("store/lines.rs", "OF_USERS", Form::Lateral),
            ("store/lines.rs", "select_groups", Form::Lateral),
            ("store/passes.rs", "FIELD_KEYS_OF", Form::Lateral),
            ("store/passes.rs", "sweep", Form::Lateral),
            ("store/passes.rs", "sweep", Form::SubSelectOverLimit),
            ("store/work.rs", "ASKERS", Form::Lateral),
            ("store/work.rs", "PUT_OF_GAPS", Form::CorrelatedWithoutGroup),
            ("store/work.rs", "TAKE", Form::Lateral),
        ],
    ),
    (
        "`prune` and `erase-user`",
        &[
            ("store/erased_entries.rs", "RENAME_PEOPLE", Form::ModifyingWith),
            ("store/past.rs", "FORGET_RELAY", Form::LocalByDistributed),
        ],
    ),
];

fn named() -> BTreeSet<(String, String, Form)> {
    let refused = REFUSED.iter().flat_map(|(_, of)| of.iter());
    let all = OF_ONE_GROUP.iter().chain(&OTHERWISE_ON_CITUS).chain(refused);
    all.map(|(file, item, form)| ((*file).to_owned(), (*item).to_owned(), *form)).collect()
}

#[test]
fn the_page_names_what_does_not_run_on_citus() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/citus.md")).unwrap();
    for (what, _) in REFUSED {
        assert!(page.contains(&format!("| {what} |")), "docs/citus.md has no line for {what}");
    }
    for table in super::citus_forms::DISTRIBUTED {
        assert!(
            page.contains(&format!("create_distributed_table('{table}', 'group_id'")),
            "{table} is not cut there"
        );
    }
}

#[test]
fn no_statement_has_a_form_that_citus_refuses_but_for_those_that_are_named() {
    let statements = statements();
    assert!(statements.len() > 250, "{} statements are found", statements.len());
    let found: BTreeSet<(String, String, Form)> = statements
        .iter()
        .flat_map(|one| forms(&one.text).into_iter().map(|form| (one.file.clone(), one.item.clone(), form)))
        .collect();
    let named = named();
    let new: Vec<_> = found.difference(&named).collect();
    let gone: Vec<_> = named.difference(&found).collect();
    assert!(new.is_empty(), "Citus refuses these: {new:#?}");
    assert!(gone.is_empty(), "these need no exception any more: {gone:#?}");
}

/// What the descriptions of the tables come to, as it is sent.
#[test]
fn no_generated_statement_has_a_form_that_citus_refuses() {
    let reviewed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/statements.sql"))
            .unwrap();
    let of_reads = "-- lines_of_groups_by_key";
    for statement in reviewed.split(";\n").filter(|statement| !statement.contains(of_reads)) {
        assert_eq!(forms(statement.trim_end()), [], "{statement}");
    }
}

/// The founding migrations run while all tables are local.
#[test]
fn a_later_migration_makes_an_index_in_a_file_of_its_own() {
    const FOUNDING: usize = 14;
    let dir = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let mut files: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= FOUNDING);
    for file in files.iter().skip(FOUNDING) {
        assert!(
            !forms(&std::fs::read_to_string(file).unwrap()).contains(&Form::IndexBesideOthers),
            "{}",
            file.display()
        );
    }
}
