//! The database of `READ_DATABASE_URL`: whether it is reached, of this program's schema, and a copy of the one that is
//! written to.
//!
//! Nothing is written. One that has taken over is no fault: reads from it are as good as those from a standby.

use std::time::Duration;

use tokio::time::timeout;

use super::line::{CheckLine, CheckSubject};
use crate::store::{Database, StoreError, condition, schema};

/// How long all of it may take, at both servers.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(10);

/// What was read of it.
struct ReadDatabaseFound {
    version: String,
    is_standby: bool,
    fault: Option<String>,
}

/// The line. `primary` is the database that is written to.
pub async fn line(url: &str, primary: &Database) -> CheckLine {
    let subject = CheckSubject::ReadDatabase;
    let remedy = "name a standby of the database of DATABASE_URL; until then `serve` reads from that one";
    let looked = timeout(LOOK_WAIT_MAX, look(url, primary)).await;
    let found = match looked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return CheckLine::wrong_by(subject, &error.to_string(), remedy),
        Err(_) => {
            let found = format!("it did not answer in {} s", LOOK_WAIT_MAX.as_secs());
            return CheckLine::wrong(subject, found, remedy);
        }
    };
    match found.fault {
        Some(fault) => CheckLine::wrong_by(subject, &fault, remedy),
        None if found.is_standby => {
            CheckLine::ok(subject, format!("PostgreSQL {}, a standby", found.version))
        }
        None => CheckLine::ok(subject, format!("PostgreSQL {}, no standby: it takes writes", found.version)),
    }
}

async fn look(url: &str, primary: &Database) -> Result<ReadDatabaseFound, StoreError> {
    let mut conn = Database::new(url)?.connect().await?;
    let server = condition::condition(&mut conn).await?;
    let fault = match schema::check(&mut conn).await? {
        Some(mismatch) => Some(mismatch.to_string()),
        None => {
            let there = condition::copy_id(&mut conn).await?;
            let mut written = primary.connect().await?;
            let here = condition::copy_id(&mut written).await?;
            let _ = sqlx::Connection::close(written).await;
            (there != here).then(|| {
                format!(
                    "it is no standby of the database of DATABASE_URL: it is {there}, and that one {here}"
                )
            })
        }
    };
    let _ = sqlx::Connection::close(conn).await;
    Ok(ReadDatabaseFound { version: server.version, is_standby: server.is_standby, fault })
}
