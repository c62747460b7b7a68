//! What the role of `DATABASE_URL` may do, compared with what the program does: each missing right as the `GRANT` that
//! gives it.
//!
//! The schema may belong to another role, which migrates; the service needs rights on rows alone. Reads only, on the
//! connection it is given.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::PgConnection;

use super::errors::StoreError;
use super::unusable::Unusable;

/// Tables, and what is done with them. The mirror's tables are deleted from by replay alone.
const TABLES: [(&str, &[&str]); 31] = [
    ("ledger", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("ledger_moves", &["SELECT", "INSERT"]),
    ("ledger_people", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("feed", &["SELECT", "UPDATE"]),
    ("feed_marks", &["SELECT", "INSERT", "DELETE"]),
    ("relay_outbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("relay_skipped", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("database_identity", &["SELECT"]),
    ("groups", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_members", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_user_defined_fields", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_attributes", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_topics", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_list_ranges", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_verifications", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("reconcile_lease", &["SELECT", "UPDATE"]),
    ("reconcile_passes", &["SELECT", "INSERT", "UPDATE"]),
    ("group_reads", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_read_digests", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("group_work", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("gone_candidates", &["SELECT", "INSERT", "DELETE"]),
    ("list_pages", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("id_list_passes", &["SELECT", "INSERT", "UPDATE"]),
    ("drift_totals", &["SELECT", "INSERT", "UPDATE"]),
    ("gaps", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("erasure_state", &["SELECT"]),
    ("erasures", &["SELECT"]),
    ("checkpoints", &["SELECT"]),
    ("prune_state", &["SELECT"]),
    ("replica_marks", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("_sqlx_migrations", &["SELECT"]),
];

/// The functions that the program calls. Their names are unique, so a `GRANT` needs no types.
const FUNCTIONS: [&str; 7] = [
    "ledger_client_ip",
    "ledger_partition_bounds",
    "ledger_partition_step",
    "ledger_platform",
    "ledger_request_id",
    "ledger_user_count",
    "ledger_users",
];

/// All tables of the program.
pub(super) fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}

/// Every view is read, and every sequence is counted on (`UPDATE` is for `setval`, where numbers were copied in).
const MISSING: &str = "
SELECT format('GRANT %s ON %s%I TO %I', string_agg(w.privilege, ', ' ORDER BY w.nr), w.kind, w.name, current_user)
  FROM (SELECT c.oid, c.relname AS name, '' AS kind, n.privilege, n.nr,
               has_table_privilege(c.oid, n.privilege) AS given
          FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS n (name, privilege, nr)
          JOIN pg_class c ON c.relname = n.name AND c.relnamespace = current_schema()::regnamespace
         UNION ALL
        SELECT c.oid, c.relname, '', 'SELECT', 1, has_table_privilege(c.oid, 'SELECT')
          FROM pg_class c
         WHERE c.relkind = 'v' AND c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($3)
         UNION ALL
        SELECT c.oid, c.relname, 'SEQUENCE ', p.privilege, p.nr, has_sequence_privilege(c.oid, p.privilege)
          FROM pg_class c, UNNEST(ARRAY['USAGE', 'SELECT', 'UPDATE']) WITH ORDINALITY AS p (privilege, nr)
         WHERE c.relkind = 'S' AND c.relnamespace = current_schema()::regnamespace
           AND c.relname = 'ledger_position_seq'
         UNION ALL
        SELECT p.oid, p.proname, 'FUNCTION ', 'EXECUTE', 1, has_function_privilege(p.oid, 'EXECUTE')
          FROM pg_proc p
         WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = ANY ($4)) w
 WHERE NOT w.given
 GROUP BY w.oid, w.kind, w.name
 ORDER BY w.name";

/// The views that the program itself reads.
const VIEWS: [&str; 4] = ["group_names", "group_states", "group_member_states", "group_topic_states"];

/// Without this one nothing is known of the schema.
const MIGRATIONS: &str = "_sqlx_migrations";

/// The rights that were missing when last looked at. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rights(Arc<Mutex<Vec<String>>>);

impl Rights {
    /// Compares again; true where none is missing, but for those on functions, for which there is another way. What is missing
    /// is logged when it changes: it stops what needs it and nothing else.
    ///
    /// # Errors
    /// The statement's; and where not even the state of the schema can be read.
    pub async fn look(&self, conn: &mut PgConnection) -> Result<bool, StoreError> {
        let missing = missing(conn).await?;
        if hide_schema(&missing) {
            return Err(Unusable::Rights(missing.join("; ")).into());
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for grant in missing.iter().filter(|grant| !known.contains(grant)) {
            tracing::warn!(
                "the role of DATABASE_URL lacks a right; let the owner of the tables run: {grant}"
            );
        }
        if missing.is_empty() && !known.is_empty() {
            tracing::info!("the role of DATABASE_URL has every right now");
        }
        known.clone_from(&missing);
        Ok(missing.iter().all(|grant| grant.contains(" ON FUNCTION ")))
    }
}

/// True where, without one of these rights, not even the state of the schema can be read.
#[must_use]
pub fn hide_schema(missing: &[String]) -> bool {
    missing.iter().any(|grant| grant.contains(MIGRATIONS) || grant.contains(" ON SCHEMA "))
}

/// A schema that has the tables and cannot be used looks as if it were not there.
const SCHEMAS: &str = "
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user)
  FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $1
 WHERE current_schema() IS NULL AND NOT has_schema_privilege(n.oid, 'USAGE')";

/// A `GRANT` per table, view, sequence and function on which a right is missing; empty where none is. What does not exist yet is
/// left out: that is the schema's matter.
///
/// # Errors
/// The statement's.
pub async fn missing(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let schemas: Vec<String> = sqlx::query_scalar(SCHEMAS).bind(MIGRATIONS).fetch_all(&mut *conn).await?;
    if !schemas.is_empty() {
        return Ok(schemas);
    }
    let wanted = TABLES.iter().flat_map(|(table, rights)| rights.iter().map(move |right| (*table, *right)));
    let (tables, rights): (Vec<&str>, Vec<&str>) = wanted.unzip();
    assert_eq!(tables.len(), rights.len(), "each right belongs to a table");
    let query = sqlx::query_scalar(MISSING).bind(tables).bind(rights);
    query.bind(&VIEWS[..]).bind(&FUNCTIONS[..]).fetch_all(conn).await
}
