//! Reads that end at the same time are committed together (group commit): what one small answer costs the database is mostly
//! its transaction.
//!
//! Each caller waits until its own batch is committed, so that an interruption costs each of them what it has read of the
//! group in work, and nothing of the groups before. Who finds no commit in work waits for others for a moment, because Tencent's
//! limit spaces the answers out, and alone each would have a transaction of its own; what comes during a commit makes up the
//! next one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::engine::PassEnd;

/// How long a commit waits for others: at 200 calls per second ten end in that time.
const GATHERING: Duration = Duration::from_millis(50);

/// With so many batches a commit waits for no more.
const GATHERED_MAX: usize = 16;

/// A batch that waits, and whom to answer.
type WaitingBatch<T, A> = (T, oneshot::Sender<Result<A, PassEnd>>);

/// The batches that wait while another commit is in work. Each caller has at most one here, so that their number limits it.
#[derive(Debug)]
pub(super) struct JointCommits<T, A> {
    waiting: Mutex<Vec<WaitingBatch<T, A>>>,
    in_work: tokio::sync::Mutex<()>,
    /// [`GATHERED_MAX`] wait.
    are_gathered: Notify,
}

impl<T, A> JointCommits<T, A> {
    pub(super) fn new() -> Self {
        let (waiting, in_work) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { waiting, in_work, are_gathered: Notify::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<WaitingBatch<T, A>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a batch together with those that wait as well, by `commit`, which answers for each of them in their order.
    pub(super) async fn commit(
        &self,
        batch: T,
        commit: impl AsyncFnOnce(Vec<T>) -> Result<Vec<A>, PassEnd>,
    ) -> Result<A, PassEnd> {
        let (answer, mut answered) = oneshot::channel();
        let waiting = {
            let mut waiting = self.waiting();
            waiting.push((batch, answer));
            waiting.len()
        };
        if waiting == GATHERED_MAX {
            self.are_gathered.notify_one();
        }
        let _in_work = self.in_work.lock().await;
        if let Ok(done) = answered.try_recv() {
            return done;
        }
        if self.waiting().len() < GATHERED_MAX {
            let _ = timeout(GATHERING, self.are_gathered.notified()).await;
        }
        let (batches, callers): (Vec<T>, Vec<_>) = std::mem::take(&mut *self.waiting()).into_iter().unzip();
        if batches.is_empty() {
            // Another caller had taken the batch, and was dropped before its commit ended.
            return Err(PassEnd::Interrupted);
        }
        // A caller that was dropped needs no answer.
        let done = match commit(batches).await {
            Ok(done) => done,
            Err(error) => {
                for caller in callers {
                    let _ = caller.send(Err(PassEnd::Stopped(error.to_string())));
                }
                return Err(error);
            }
        };
        assert_eq!(done.len(), callers.len(), "an answer for each batch");
        for (caller, answer) in callers.into_iter().zip(done) {
            let _ = caller.send(Ok(answer));
        }
        answered.try_recv().unwrap_or(Err(PassEnd::Interrupted))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_comes_while_a_commit_is_in_work_makes_up_the_next_one_and_each_caller_learns_its_end() {
        let (joint, sizes) = (Arc::new(JointCommits::new()), Arc::new(Mutex::new(Vec::new())));
        let (begun, begins) = oneshot::channel::<()>();
        let (end, ends) = oneshot::channel::<()>();
        let commit = |number: usize| {
            let (joint, sizes) = (Arc::clone(&joint), Arc::clone(&sizes));
            tokio::spawn(async move {
                joint
                    .commit(number, async |batches: Vec<usize>| {
                        sizes.lock().unwrap().push(batches.len());
                        if batches.contains(&7) { Err(PassEnd::Interrupted) } else { Ok(batches) }
                    })
                    .await
            })
        };
        let first = {
            let (joint, sizes) = (Arc::clone(&joint), Arc::clone(&sizes));
            tokio::spawn(async move {
                joint
                    .commit(0, async |batches: Vec<usize>| {
                        sizes.lock().unwrap().push(batches.len());
                        begun.send(()).unwrap();
                        ends.await.unwrap();
                        Ok(batches)
                    })
                    .await
            })
        };
        begins.await.unwrap();
        let later: Vec<_> = (1..=7).map(commit).collect();
        while joint.waiting().len() < later.len() {
            tokio::task::yield_now().await;
        }
        end.send(()).unwrap();
        assert!(first.await.unwrap().is_ok_and(|own| own == 0));
        for caller in later {
            assert!(caller.await.unwrap().is_err(), "one commit that fails fails for all in it");
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 7]);
        assert!(commit(8).await.unwrap().is_ok_and(|own| own == 8));
    }
}
