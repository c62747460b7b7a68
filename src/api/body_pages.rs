//! Pages of ledger entries with their bodies: read from the database, decoded, and limited in number and in bytes.
//!
//! A page holds up to 4 MiB of bodies, some 30 MB once they are decoded, and a connection while it is read. So few run at
//! once. Each is a task of its own: the statement of a client that has hung up goes on in the server, and must hold its
//! permit and its connection for as long. Bodies are decoded on the pool of blocking threads.

use tokio::task::spawn_blocking;

use super::errors::ApiError;
use super::state::ApiState;
use crate::replay::as_of::AsOfError;
use crate::store::{READ_WAIT_MAX, ReadConnection, in_time};

/// How many bytes of bodies one page reads before it ends early, with a cursor: 4 MiB, which are thousands of ordinary
/// callbacks. It bounds the memory of a page, some 30 MB at worst, where bodies consist of user ids.
pub(crate) const PAGE_BODY_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// Reads a page and shows it, within the permits for such pages.
///
/// # Errors
/// Those of the read; `unavailable` without a permit or a connection in time.
pub(crate) async fn body_page<R, P, F>(
    state: &ApiState,
    read: impl FnOnce(ReadConnection) -> F + Send + 'static,
    show: impl FnOnce(R) -> Result<P, ApiError> + Send + 'static,
) -> Result<P, ApiError>
where
    R: Send + 'static,
    P: Send + 'static,
    F: Future<Output = Result<R, sqlx::Error>> + Send + 'static,
{
    let permit = state.as_of.permits().page_permit().await.map_err(|error| match error {
        AsOfError::Busy => {
            ApiError::unavailable("Too many pages of ledger entries are read at once; try again.")
        }
        other => other.into(),
    })?;
    let connection = state.connection().await?;
    let reading = tokio::spawn(async move {
        let rows = in_time(READ_WAIT_MAX, read(connection)).await?;
        let shown = spawn_blocking(move || {
            let _permit = permit;
            show(rows)
        });
        shown.await.map_err(ApiError::internal)?
    });
    reading.await.map_err(ApiError::internal)?
}
