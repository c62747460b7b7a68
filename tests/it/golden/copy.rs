//! Data of a database as text: for each table a block as `pg_dump --data-only` writes it, which `psql` can load as well.
//!
//! Rows stand in the order of their text, columns in that of the table, and what PostgreSQL generates is left out, so that the
//! same data is the same text on every server.

use std::fmt::Write as _;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

const TABLES: &str = "
SELECT c.relname::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND c.relname <> '_sqlx_migrations'
 GROUP BY c.relname ORDER BY c.relname";

/// Settings that decide how values are written.
const AS_TEXT: &str =
    "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1";

/// The rows of a query as `COPY` writes them.
pub(super) async fn rows(conn: &mut PgConnection, query: &str) -> String {
    conn.execute(AS_TEXT).await.unwrap();
    let copy = format!("COPY ({query}) TO STDOUT");
    let chunks: Vec<_> = conn.copy_out_raw(&copy).await.unwrap().try_collect().await.unwrap();
    String::from_utf8(chunks.concat()).unwrap()
}

/// All tables, and the number that the next entry of the ledger follows.
pub(super) async fn dump(conn: &mut PgConnection) -> String {
    let tables: Vec<(String, String)> = sqlx::query_as(TABLES).fetch_all(&mut *conn).await.unwrap();
    let mut text = String::new();
    for (table, columns) in tables {
        let rows =
            rows(conn, &format!("SELECT {columns} FROM {table} t ORDER BY t::text COLLATE \"C\"")).await;
        write!(text, "COPY {table} ({columns}) FROM stdin;\n{rows}\\.\n\n").unwrap();
    }
    let last: i64 =
        sqlx::query_scalar("SELECT last_value FROM ledger_position_seq").fetch_one(conn).await.unwrap();
    writeln!(text, "SELECT setval('ledger_position_seq', {last});").unwrap();
    text
}

/// Puts such a text in the place of what a database has, as a restore does: no trigger fires.
pub(super) async fn load(conn: &mut PgConnection, text: &str) {
    conn.execute("SET session_replication_role = replica").await.unwrap();
    let mut lines = text.split_inclusive('\n');
    let mut tables = 0;
    while let Some(line) = lines.next() {
        if let Some(header) = line.strip_prefix("COPY ") {
            let table = header.split(' ').next().unwrap();
            conn.execute(AssertSqlSafe(format!("TRUNCATE {table}"))).await.unwrap();
            let rows: String = lines.by_ref().take_while(|line| *line != "\\.\n").collect();
            let mut copy = conn.copy_in_raw(line.trim_end().trim_end_matches(';')).await.unwrap();
            copy.send(rows.into_bytes()).await.unwrap();
            copy.finish().await.unwrap();
            tables += 1;
        } else if line.starts_with("SELECT ") {
            conn.execute(AssertSqlSafe(line.to_owned())).await.unwrap();
        }
    }
    assert!(tables > 20, "{tables} tables were loaded");
    conn.execute("RESET session_replication_role").await.unwrap();
}
