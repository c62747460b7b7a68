//! The names that groups have now, for pages of entries, which show the name of a group beside its id.
//!
//! Read after the page, in a statement of its own: a name may have a mebibyte, and a page on which a group stands a hundred times
//! gets it once; and Citus refuses a look-up for each row of a page that has a LIMIT. Reads only, on the connection it is given.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

const NAMES: &str = "
SELECT group_id, left(name, $3) FROM group_names
 WHERE sdk_app_id = $1 AND group_id = ANY ($2) AND name IS NOT NULL";

/// Names by app and group.
pub(super) struct GroupNames(BTreeMap<(i64, String), String>);

impl GroupNames {
    /// The names of these groups, each an app and an id; of a longer one the first `chars_max` characters.
    ///
    /// # Errors
    /// The statement's.
    pub(super) async fn of<'a>(
        conn: &mut PgConnection,
        groups: impl Iterator<Item = (i64, &'a str)>,
        chars_max: i32,
    ) -> Result<Self, sqlx::Error> {
        let mut by_app: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
        // The empty id stands for a group that is not known.
        for (app, group) in groups.filter(|(_, group)| !group.is_empty()) {
            by_app.entry(app).or_default().insert(group);
        }
        let mut names = BTreeMap::new();
        for (app, groups) in by_app {
            let groups: Vec<&str> = groups.into_iter().collect();
            let query = sqlx::query_as(NAMES).bind(app).bind(&groups).bind(chars_max);
            let found: Vec<(String, String)> = query.fetch_all(&mut *conn).await?;
            assert!(found.len() <= groups.len(), "a group has one name");
            names.extend(found.into_iter().map(|(group, name)| ((app, group), name)));
        }
        Ok(Self(names))
    }

    /// The name of a group; none where none is known.
    pub(super) fn name(&self, app: i64, group: &str) -> Option<String> {
        self.0.get(&(app, group.to_owned())).cloned()
    }
}
