//! The two signs of life that a person who sets up the console waits for: the console's check, and the first callback.
//!
//! Without these lines a healthy service whose callbacks never come looks like one that works. The check has an empty
//! body and no signature that could be wrong, so its line says what it does not prove.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one line about the console's check in this time: anybody can send one.
const CHECK_LINE_PERIOD: Duration = Duration::from_secs(60);

/// What one run has seen. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sightings(Arc<SightingState>);

#[derive(Debug, Default)]
struct SightingState {
    callback: AtomicBool,
    check_line: Mutex<Option<Instant>>,
}

impl Sightings {
    /// An authentic callback was answered with OK; the first of a run has a line.
    pub(super) fn callback(&self, command: &'static str, outcome: &'static str) {
        // Loaded first, so that the callbacks after it share the value without writing it.
        if !self.0.callback.load(Ordering::Relaxed) && !self.0.callback.swap(true, Ordering::Relaxed) {
            tracing::info!(callback.command = command, outcome, "the first callback of this run has come");
        }
    }

    /// A request without a body was answered with OK.
    pub(super) fn check(&self) {
        let mut line = self.0.check_line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_none_or(|line| line.elapsed() >= CHECK_LINE_PERIOD) {
            *line = Some(Instant::now());
            drop(line);
            tracing::info!(
                "an empty request, such as the console's check, was answered with OK; it proves the address only, \
                 neither the app id nor the token"
            );
        }
    }
}
