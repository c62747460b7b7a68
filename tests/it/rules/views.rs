//! The views are the twin of the pure rules: after any history both show the same of every group, member and topic.
//!
//! Histories come from the generator of all the laws and reach the tables by the one transaction that commits callbacks. See
//! `states.rs` for the second opinion: another generator, and rows that only REST reads will make.

use group_mirror::callback::Callback;
use group_mirror::ingest::{self, Outcome};
use group_mirror::mirror::{self, Rows};
use group_mirror::store::Database;
use proptest::strategy::{Strategy as _, ValueTree as _};

use crate::rules::laws::{callback, generator, setting};
use crate::support::{histories, postgres::TestDatabase, shown};

/// Aim: what a reader is shown is what the rules say. Method: generated histories, each with ids of its own, committed
/// by the one transaction; then every row of the views is compared with the pure rules. `LAWS_HISTORIES` sets how
/// many, `LAWS_SEED` which.
#[tokio::test]
async fn the_views_show_what_the_pure_rules_show() {
    let database = TestDatabase::create().await;
    let pools = Database::new(&database.url).unwrap();
    let mut runner = generator(setting("LAWS_SEED", 11));
    let mut rows = Rows::default();
    for number in 0..setting("LAWS_HISTORIES", 400) {
        let history = histories::history().new_tree(&mut runner).unwrap().current();
        let history = histories::renamed(&history, &format!("v{number}-"));
        let callbacks: Vec<Callback> = history.iter().map(callback).collect();
        rows.merge(Rows::of(callbacks.iter().flat_map(mirror::facts)));
        for outcome in ingest::commit(&pools, &callbacks).await {
            assert!(matches!(outcome.unwrap(), Outcome::Applied | Outcome::Duplicate));
        }
    }
    let mut conn = database.connect().await;
    let (pure, mut views) = (shown::pure(&rows), shown::views(&mut conn).await);
    for (id, expected) in pure {
        assert_eq!(views.remove(&id).as_ref(), Some(&expected), "{id}");
    }
    assert!(views.is_empty(), "the views show no other group");
    pools.close().await;
}
