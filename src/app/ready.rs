//! The `ready` command: whether the `serve` of these settings is ready, as an exit code, for the health check of a container.
//!
//! It asks the internal listener on this machine, with TLS where the settings have it, and needs neither a token nor curl in
//! the image. It reads the two settings of that listener and no secret, logs nothing, and prints one line.

use std::io::Write as _;
use std::process::ExitCode;

use crate::check::OwnListener;
use crate::check::service::ServiceClient;
use crate::config::Settings;

/// `ready`.
///
/// # Errors
/// A setting of the internal listener that is wrong; a standard output that cannot be written.
pub async fn ready(settings: &Settings) -> anyhow::Result<ExitCode> {
    let (address, tls) = settings.api_listener()?;
    let certificate = tls.map(|files| files.certificate.path);
    let listener = OwnListener { address, certificate, wants_certificate: false, prefix: String::new() };
    let (is_ready, line) = ServiceClient::new(&[&listener])?.readiness(&listener).await;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
