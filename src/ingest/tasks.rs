//! The tasks and threads of the writer, and the token that says that one has ended.
//!
//! None of them ends before the writer is closed. One that does has panicked, and a half-dead writer is worse than a
//! restart, so each holds a guard that reports its end, however it comes.

use std::pin::Pin;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A task of the writer.
pub(super) type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct WriterTasks {
    /// Lanes, drain, prober and what looks on.
    pub(super) tasks: TaskTracker,
    /// The owners of files.
    pub(super) threads: TaskTracker,
    /// Cancelled when one has ended.
    pub(super) ended: CancellationToken,
}

impl WriterTasks {
    pub(super) fn run(&self, task: TaskFuture) {
        let held = self.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _held = held;
            task.await;
        });
    }

    /// Runs what may block.
    pub(super) fn run_thread(&self, work: impl FnOnce() + Send + 'static) {
        let held = self.ended.clone().drop_guard();
        self.threads.spawn_blocking(move || {
            let _held = held;
            work();
        });
    }

    /// No further one comes.
    pub(super) fn close(&self) {
        self.tasks.close();
        self.threads.close();
    }
}
