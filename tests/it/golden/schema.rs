//! The schema of a release: its migrations, which are frozen by their checksums, make on every server the tables, columns, keys,
//! indexes and functions that it was released with.
//!
//! Taken from the catalogue and not from `pg_dump`, whose text differs from version to version. Partitions, whose names follow
//! from the day, and the text of views, which each version of PostgreSQL writes in its own way, are left out.

use sqlx::postgres::PgConnection;

use super::files::releases;

const SCHEMA: &str = r#"
SELECT line FROM (
    SELECT format('column %s.%s %s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attcollation <> t.typcollation THEN ' collate ' || l.collname ELSE '' END,
                  CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
                  CASE WHEN a.attgenerated <> '' THEN ' generated' WHEN d.oid IS NOT NULL
                       THEN ' default ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END) AS line
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_collation l ON l.oid = a.attcollation
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
     UNION ALL
    SELECT format('table %s %s%s%s', c.relname, c.relkind, CASE c.relreplident WHEN 'f' THEN ' replica identity full' ELSE '' END,
                  coalesce(' with ' || array_to_string(c.reloptions, ', '), ''))
      FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
     UNION ALL
    SELECT format('constraint %s.%s %s', c.relname, k.conname, pg_get_constraintdef(k.oid))
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
     WHERE k.connamespace = 'public'::regnamespace AND NOT c.relispartition AND k.contype <> 'n'
     UNION ALL
    SELECT 'index ' || pg_get_indexdef(i.indexrelid)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
     WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
     UNION ALL
    SELECT 'trigger ' || pg_get_triggerdef(g.oid)
      FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
     WHERE c.relnamespace = 'public'::regnamespace AND NOT g.tgisinternal AND NOT c.relispartition
     UNION ALL
    SELECT format('function %s returns %s language %s %s%s sha256 %s', p.oid::regprocedure, pg_get_function_result(p.oid), l.lanname,
                  p.provolatile, CASE WHEN p.prosecdef THEN ' security definer' ELSE '' END,
                  encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'))
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'public'::regnamespace
     UNION ALL
    SELECT format('sequence %s from %s by %s', sequencename, start_value, increment_by) FROM pg_sequences WHERE schemaname = 'public'
) l ORDER BY line COLLATE "C""#;

/// One line for each thing that a database has.
pub(super) async fn described(conn: &mut PgConnection) -> String {
    let lines: Vec<String> = sqlx::query_scalar(SCHEMA).fetch_all(conn).await.unwrap();
    lines.into_iter().map(|line| line + "\n").collect()
}

#[tokio::test]
async fn the_migrations_of_a_release_make_the_schema_that_it_was_released_with() {
    for release in releases() {
        let database = release.empty_database().await;
        let (golden, now) = (release.text("schema.txt"), described(&mut database.connect().await).await);
        assert!(golden.lines().count() > 200);
        let lost: Vec<&str> =
            golden.lines().filter(|line| !now.lines().any(|other| other == *line)).collect();
        let new: Vec<&str> = now.lines().filter(|line| !golden.lines().any(|other| other == *line)).collect();
        assert_eq!((lost, new), (Vec::new(), Vec::new()), "{}: lost, and new", release.version);
    }
}
