//! The request to give up a start: set by another thread when a signal comes, looked at by everything here that waits.
//!
//! A start may wait minutes for a lock, for crash recovery or for `initdb`, all of it blocking. Each of these waits is a
//! loop that looks at this flag, so that the process can end within moments and leave nothing running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::EmbeddedError;

/// Whether the start is to be given up. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the start to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// [`EmbeddedError::Interrupted`] once it is set.
    pub(super) fn check(&self) -> Result<(), EmbeddedError> {
        if self.is_set() { Err(EmbeddedError::Interrupted) } else { Ok(()) }
    }
}
