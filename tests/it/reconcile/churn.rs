//! Passes over a mirror in which callbacks go on: groups that end while a pass asks for them, and a mirror that grows.

use group_mirror::fake::ExistingGroups;
use group_mirror::reconcile::PassKind;
use serde_json::json;
use sqlx::Executor as _;

use super::passes::{Reading, destroy, quick, statuses, unlimited};
use crate::tencent::fake::fake_with;

/// Aim: the end of a group that a callback reports is no sign of wrong credentials. Method: the answer that denies a group is
/// noted, and at once the mirror shows the group as destroyed, as by a callback that came a moment after the answer.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_callbacks_end_while_a_pass_asks_for_them_do_not_stop_it() {
    let existing = ExistingGroups { groups: 130, members: 3 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    let callback_follows = "
        CREATE FUNCTION ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE groups SET gone_stamp = GREATEST(created_stamp, read_stamp, alive_stamp)
             WHERE group_id = NEW.group_id;
            RETURN NULL;
        END $$;
        CREATE TRIGGER ended AFTER INSERT ON gone_candidates FOR EACH ROW EXECUTE FUNCTION ended()";
    reading.database.connect().await.execute(callback_follows).await.unwrap();
    destroy(&fake, 0..40).await;
    fake.step(120_000);
    reading.pass(PassKind::Reconcile).await.unwrap();
    assert_eq!(statuses(&reading).await, [("active".to_owned(), 90), ("destroyed".to_owned(), 40)]);
}

/// Aim: the share of groups that may be gone is one of the mirror as it is, not as it was when a pass of hours began. Method:
/// the pass is noted as one that began with an empty mirror, of which it found no group.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_began_with_an_empty_mirror_counts_what_came_since() {
    let existing = ExistingGroups { groups: 130, members: 3 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let mut settings = quick();
    (settings.gone_max, settings.gone_percent_max) = (2, 10);
    let reading = Reading::of(&fake, settings).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    let began_empty = "
        CREATE FUNCTION empty() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.known := 0;
            NEW.found_alive := 0;
            RETURN NEW;
        END $$;
        CREATE TRIGGER empty BEFORE INSERT OR UPDATE ON reconcile_passes FOR EACH ROW EXECUTE FUNCTION empty()";
    reading.database.connect().await.execute(began_empty).await.unwrap();
    destroy(&fake, 0..12).await;
    fake.step(120_000);
    reading.pass(PassKind::Reconcile).await.unwrap();
    assert_eq!(statuses(&reading).await, [("active".to_owned(), 118), ("destroyed".to_owned(), 12)]);
}
