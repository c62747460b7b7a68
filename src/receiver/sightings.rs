//! The two signs of life that a person who sets up the console waits for: the console's check, and the first callback.
//!
//! Without these lines a healthy service whose callbacks never come looks like one that works. The check has an empty
//! body and no signature that could be wrong, so its line says what it does not prove. Each app has a console of its own,
//! and so a first callback of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::SdkAppId;

/// At most one line about the console's check in this time: anybody can send one.
const CHECK_LINE_PERIOD: Duration = Duration::from_secs(60);

/// What one run has seen. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sightings(Arc<SightingState>);

#[derive(Debug)]
struct SightingState {
    /// Whether a callback of an app has come.
    callback: BTreeMap<SdkAppId, AtomicBool>,
    check_line: Mutex<Option<Instant>>,
}

impl Sightings {
    /// Nothing of these apps was seen yet.
    #[must_use]
    pub fn of(apps: impl Iterator<Item = SdkAppId>) -> Self {
        let callback = apps.map(|app| (app, AtomicBool::new(false))).collect();
        Self(Arc::new(SightingState { callback, check_line: Mutex::default() }))
    }

    /// An authentic callback was answered with OK; the first of an app and run has a line.
    pub(super) fn callback(&self, app: SdkAppId, command: &'static str, outcome: &'static str) {
        let Some(came) = self.0.callback.get(&app) else { return };
        // Loaded first, so that the callbacks after it share the value without writing it.
        if !came.load(Ordering::Relaxed) && !came.swap(true, Ordering::Relaxed) {
            tracing::info!(
                callback.app = app.get(),
                callback.command = command,
                outcome,
                "the first callback of this run has come"
            );
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
