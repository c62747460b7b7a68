//! The mirror as comparable values: once from PostgreSQL, once from the pure fold. Byte for byte, stamps included.
//!
//! A second opinion on `store/lines.rs`: the columns come from PostgreSQL's catalogue, not from the descriptions of the
//! tables, so that a column which no description has is a difference.

use std::collections::BTreeMap;

use group_mirror::mirror::Rows;
use group_mirror::store::lines;
use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// Table name → rows in key order.
pub(crate) type Dump = BTreeMap<&'static str, Vec<Value>>;

/// Every column but the generated ones, which follow from the others.
const STORED: &str = "
SELECT string_agg(format('%L, %s', column_name, CASE
           WHEN data_type = 'bytea' THEN format('encode(%I, ''hex'')', column_name)
           WHEN data_type = 'text' OR column_name = 'sdk_app_id' THEN format('%I', column_name)
           ELSE format('%I::text', column_name) END), ', ')
  FROM information_schema.columns
 WHERE table_schema = current_schema() AND table_name = $1 AND is_generated = 'NEVER'";

/// What the tables hold.
pub(crate) async fn tables(conn: &mut PgConnection) -> Dump {
    let mut dump = Dump::new();
    for table in lines::tables() {
        let columns: String =
            sqlx::query_scalar(STORED).bind(table.table).fetch_one(&mut *conn).await.unwrap();
        let key = table.key.map(|key| format!(", {key}")).unwrap_or_default();
        let select = format!(
            "SELECT jsonb_build_object({columns}) FROM {} ORDER BY sdk_app_id, group_id{key}",
            table.table
        );
        let rows = sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(&mut *conn).await;
        dump.insert(table.table, rows.unwrap());
    }
    dump
}

/// What the tables would hold after these rows.
pub(crate) fn rows(rows: &Rows) -> Dump {
    let tables = lines::tables();
    let mut dump: Dump = tables.iter().map(|table| (table.table, Vec::new())).collect();
    for ((name, app, group, key), values) in lines::of_rows(rows) {
        let table = tables.iter().find(|table| table.table == name).unwrap();
        let mut row = Map::new();
        row.insert("sdk_app_id".to_owned(), json!(app));
        row.insert("group_id".to_owned(), json!(group));
        row.extend(table.key.map(|column| (column.to_owned(), json!(key))));
        row.extend(table.columns.iter().zip(values).map(|((name, _), value)| (name.clone(), json!(value))));
        dump.get_mut(name).unwrap().push(Value::Object(row));
    }
    dump
}
