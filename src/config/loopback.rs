//! Listeners that have to be on a loopback address, because of other settings: without tokens, or with a guessable one.
//!
//! The reason is kept with the settings, because the address is known for certain only later: a service manager may hand
//! over a socket in its place.

use std::net::SocketAddr;

use anyhow::bail;

/// Unsigned callbacks without `CALLBACK_AUTH=none`.
pub(super) const NO_CALLBACK_TOKEN: &str = "CALLBACK_TOKEN is not set; set it to the token of the console's callback authentication, or say CALLBACK_AUTH=none to accept unsigned callbacks";

/// `API_AUTH=none`.
pub(super) const OPEN_API: &str =
    "API_AUTH is \"none\"; without tokens it should be a loopback address such as 127.0.0.1:8081";

/// A token that can be guessed.
pub(super) const SHORT_API_TOKEN: &str = "a token of API_TOKEN has fewer than 16 characters; such a token works on a loopback address alone, one from `openssl rand -hex 32` everywhere";

/// Why a listener has to be on a loopback address, if it has to: what would be right, as a line that a person reads.
#[derive(Debug, Clone, Copy)]
pub struct LoopbackOnly {
    pub(super) callbacks: Option<&'static str>,
    pub(super) api: Option<&'static str>,
}

impl LoopbackOnly {
    /// Checks the addresses of the public and the internal listener: those of the settings, and later those of sockets
    /// that a service manager has handed over in their place.
    ///
    /// # Errors
    /// A listener that another machine can reach, with settings that are safe on this machine alone.
    pub fn check(&self, callbacks: SocketAddr, api: SocketAddr) -> anyhow::Result<()> {
        for (name, reason, address) in
            [("CALLBACK_LISTEN", self.callbacks, callbacks), ("API_LISTEN", self.api, api)]
        {
            if let Some(reason) = reason.filter(|_| !is_loopback(address)) {
                bail!("{name} is {address}, which other machines can reach, and {reason}");
            }
        }
        Ok(())
    }
}

/// Whether only this machine can reach an address; that of IPv4 in the form of IPv6 as well.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
