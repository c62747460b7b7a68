//! When a person is named in the ledger, and with what the person acted.
//!
//! Reads only, on the connection it is given. The times come from the two ends of a range of the index of people, so they cost
//! the same for ten entries and for a million; what was acted with comes from a limited number of the newest. No body is read.

use sqlx::{FromRow, PgConnection};

use super::citus::Dialect;
use super::prune;
use super::read_pool::ReadConnection;
use crate::mirror::PersonPart;
use crate::model::{SdkAppId, UserId};

/// When a person is named in the ledger, in Unix milliseconds; `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Sights {
    /// In its oldest entry; not known where entries were pruned.
    pub first_ms: Option<i64>,
    /// In its newest entry.
    pub last_ms: Option<i64>,
}

const SIGHTS: &str = r"
SELECT (SELECT p.time_ms FROM ledger_people p
         WHERE p.sdk_app_id = $1 AND p.user_id = $2
           AND EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = $1 AND l.group_id = p.group_id
                          AND l.time_ms = p.time_ms AND l.digest = p.digest OFFSET 0)
         ORDER BY p.time_ms LIMIT 1) AS first_ms,
       (SELECT p.time_ms FROM ledger_people p
         WHERE p.sdk_app_id = $1 AND p.user_id = $2
           AND EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = $1 AND l.group_id = p.group_id
                          AND l.time_ms = p.time_ms AND l.digest = p.digest OFFSET 0)
         ORDER BY p.time_ms DESC LIMIT 1) AS last_ms";

/// When a person is named first and last.
///
/// # Errors
/// Those of the connection and the database.
pub async fn sights(conn: &mut PgConnection, app: SdkAppId, user: &UserId) -> Result<Sights, sqlx::Error> {
    let is_pruned = prune::whole_since(conn).await?.is_some();
    let found: Sights = sqlx::query_as(SIGHTS).bind(app.get()).bind(user.as_str()).fetch_one(conn).await?;
    Ok(Sights { first_ms: found.first_ms.filter(|_| !is_pruned), ..found })
}

/// With what, and from where, a person acted.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Means {
    /// `OptPlatform` of the query; free text.
    pub platform: Option<String>,
    /// `ClientIP` of the query.
    pub client_ip: Option<String>,
    /// When for the last time, Unix milliseconds.
    pub last_ms: i64,
}

/// How many of the newest entries of a person are looked at, and how many different means are named.
pub const ACTS_SEARCHED_MAX: i64 = 200;
const MEANS_MAX: i64 = 20;

const MEANS: &str = r"
SELECT platform, client_ip, max(time_ms) AS last_ms
  FROM (SELECT l.platform, l.client_ip, k.time_ms
          FROM (SELECT * FROM ledger_people
                 WHERE sdk_app_id = $1 AND user_id = $2
                 ORDER BY time_ms DESC
                 LIMIT $3) k
         CROSS JOIN LATERAL
               (SELECT ledger_platform(e.platform, e.odd_values) AS platform,
                       ledger_client_ip(e.client_ip, e.odd_values) AS client_ip
                  FROM ledger e
                 WHERE e.sdk_app_id = k.sdk_app_id AND e.group_id = k.group_id
                   AND e.time_ms = k.time_ms AND e.digest = k.digest
                OFFSET 0) l
         WHERE k.parts & $4 <> 0 AND (l.platform <> '' OR l.client_ip <> '')) acts
 GROUP BY platform, client_ip
 ORDER BY last_ms DESC
 LIMIT $5";

/// The same by one join, for a server that takes nothing else.
const MEANS_ON_CITUS: &str = r"
SELECT platform, client_ip, max(time_ms) AS last_ms
  FROM (SELECT ledger_platform(e.platform, e.odd_values) AS platform, ledger_client_ip(e.client_ip, e.odd_values) AS client_ip,
               k.time_ms, k.parts
          FROM ledger_people k
          JOIN ledger e ON e.sdk_app_id = k.sdk_app_id AND e.group_id = k.group_id
                       AND e.time_ms = k.time_ms AND e.digest = k.digest
         WHERE k.sdk_app_id = $1 AND k.user_id = $2
         ORDER BY k.time_ms DESC
         LIMIT $3) acts
 WHERE parts & $4 <> 0 AND (platform <> '' OR client_ip <> '')
 GROUP BY platform, client_ip
 ORDER BY last_ms DESC
 LIMIT $5";

/// With what a person acted in the newest [`ACTS_SEARCHED_MAX`] entries, the last one first.
///
/// # Errors
/// Those of the connection and the database.
pub async fn means(
    conn: &mut ReadConnection,
    app: SdkAppId,
    user: &UserId,
) -> Result<Vec<Means>, sqlx::Error> {
    let statement = match conn.dialect() {
        Dialect::Plain => MEANS,
        Dialect::Citus => MEANS_ON_CITUS,
    };
    sqlx::query_as(statement)
        .bind(app.get())
        .bind(user.as_str())
        .bind(ACTS_SEARCHED_MAX)
        .bind(PersonPart::Operator.stored())
        .bind(MEANS_MAX)
        .fetch_all(&mut **conn)
        .await
}
