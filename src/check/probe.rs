//! `check --probe`: asks a real app what Tencent's pages do not say, and answers in counts and forms.
//!
//! The answers are meant to be pasted into an issue: none holds an id, a name or a secret, and each says what it was read
//! from. Only reads are made, one after the other and few, at a share of the limits that leaves the app's own use of the
//! API undisturbed. What no group of the app can show is answered with "not known"; what would need a write is not asked.

use tokio_util::sync::CancellationToken;

use super::probing::{Probe, ProbeAnswer};
use super::{probe_details, probe_groups, probe_ids, probe_members};
use crate::model::UserId;
use crate::tencent::CallError;
use crate::tencent::client::TencentClient;

/// Asks all questions. `admin` is the account that the client acts as.
///
/// # Errors
/// No answer to a call, or one that says nothing about the question: credentials, rates, a broken network.
pub async fn probe(
    client: &TencentClient,
    admin: &UserId,
    stop: &CancellationToken,
) -> Result<Vec<ProbeAnswer>, CallError> {
    let mut probe = Probe::new(client, admin, stop);
    let ids = probe_ids::ask(&mut probe).await?;
    let sample = probe_groups::ask(&mut probe, &ids).await?;
    probe_members::ask(&mut probe, &sample).await?;
    probe_details::ask(&mut probe, &sample).await?;
    Ok(probe.finish())
}
