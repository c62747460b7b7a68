//! What a command beside the service needs of its settings: who may send callbacks, and where the listeners are reached.
//!
//! Each needs a part of the settings alone, so that one which has nothing to do with it, a secret that this user may not
//! read, say, does not keep a person from it.

use std::net::SocketAddr;

use anyhow::anyhow;

use super::apps::NO_APP;
use super::settings::Settings;
use super::tokens::callback_tokens;
use super::values::{address, secs};
use crate::callback::signature::{Gate, Token};
use crate::server::TlsFiles;

impl Settings {
    /// Who may send callbacks.
    ///
    /// # Errors
    /// One line that names the variable; never a secret.
    pub fn gate(&self) -> anyhow::Result<Gate> {
        let ids = self.app_ids()?.ok_or_else(|| anyhow!(NO_APP))?;
        let tokens = callback_tokens(&self.callback_token_secret(), &ids)?;
        let of = |app| (app, tokens.all_of(app).iter().cloned().map(Token::new).collect());
        Ok(Gate { tokens: ids.into_iter().map(of).collect(), max_skew_secs: self.max_skew_secs()? })
    }

    /// The public listener.
    ///
    /// # Errors
    /// One line that names the variable.
    pub fn callback_listener(&self) -> anyhow::Result<(SocketAddr, Option<TlsFiles>)> {
        let listen = address("CALLBACK_LISTEN", self.callback_listen.as_ref(), "127.0.0.1:8080")?;
        Ok((listen, self.callback_tls()?))
    }

    /// The internal listener.
    ///
    /// # Errors
    /// One line that names the variable.
    pub fn api_listener(&self) -> anyhow::Result<(SocketAddr, Option<TlsFiles>)> {
        let listen = address("API_LISTEN", self.api_listen.as_ref(), "127.0.0.1:8081")?;
        Ok((listen, self.api_tls()?))
    }

    /// The allowed distance of a callback's `RequestTime` from the clock in seconds, both ways.
    pub(super) fn max_skew_secs(&self) -> anyhow::Result<u64> {
        secs("CALLBACK_MAX_SKEW_SECS", self.callback_max_skew_secs.as_ref(), 1..=86_400, 60)
    }
}
