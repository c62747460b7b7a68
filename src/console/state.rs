//! What the pages of the console work with: the state of the read API, and what only pages show.
//!
//! A page makes the same calls of the store as the API, under the same permits; it sends no HTTP to its own process.

use std::sync::Arc;

use super::wall::Wall;
use crate::api::state::ApiState;
use crate::model::SdkAppId;
use crate::traffic::Traffic;

/// What a newcomer has to know to send the first callback.
#[derive(Debug, Clone)]
pub struct FirstSteps {
    /// The address of the listener of callbacks, as this machine reaches it.
    pub callback_url: String,
    /// Whether callbacks have to be signed.
    pub is_signed: bool,
}

/// What the pages work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConsoleState {
    /// The state of the read API.
    pub api: ApiState,
    /// The apps that are served, in the order of the settings.
    pub apps: Arc<[SdkAppId]>,
    /// The last hour of this process, minute by minute.
    pub traffic: Traffic,
    /// For pages of a mirror that is still empty.
    pub first_steps: Arc<FirstSteps>,
    /// Names this process on pages that show its own counters.
    pub process: Arc<str>,
    /// The kind of the volume of the data directory, where it is one that a restart of the machine empties.
    pub forgetful_volume: Option<Arc<str>>,
    /// The newest entries, for pages that are open.
    pub wall: Wall,
}

impl ConsoleState {
    /// What stands before every path of the listener; empty: nothing.
    pub(crate) fn prefix(&self) -> &str {
        self.api.sessions.prefix().as_str()
    }

    /// Whether readers log in.
    pub(crate) fn has_sessions(&self) -> bool {
        self.api.sessions.are_needed()
    }
}
