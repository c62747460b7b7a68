//! The settings of TLS: three paths of a listener → which files it serves TLS with, or plain HTTP.
//!
//! Only whether the settings fit together is checked here. What is in the files is read by `server/certificate.rs`, at the
//! start and whenever it changes.

use anyhow::bail;

use super::Settings;
use super::values::set;
use crate::server::{NamedFile, TlsFiles};

impl Settings {
    /// TLS of the public listener; none: plain HTTP.
    pub(super) fn callback_tls(&self) -> anyhow::Result<Option<TlsFiles>> {
        tls_files(
            named("CALLBACK_TLS_CERT", self.callback_tls_cert.as_ref()),
            named("CALLBACK_TLS_KEY", self.callback_tls_key.as_ref()),
            named("CALLBACK_TLS_CLIENT_CA", self.callback_tls_client_ca.as_ref()),
        )
    }

    /// TLS of the internal listener; none: plain HTTP.
    pub(super) fn api_tls(&self) -> anyhow::Result<Option<TlsFiles>> {
        tls_files(
            named("API_TLS_CERT", self.api_tls_cert.as_ref()),
            named("API_TLS_KEY", self.api_tls_key.as_ref()),
            ("", None),
        )
    }
}

type Named = (&'static str, Option<NamedFile>);

fn named(variable: &'static str, path: Option<&String>) -> Named {
    (variable, set(path).map(|path| NamedFile { variable, path: path.into() }))
}

fn tls_files(certificate: Named, key: Named, client_ca: Named) -> anyhow::Result<Option<TlsFiles>> {
    match (certificate, key, client_ca) {
        ((_, Some(certificate)), (_, Some(key)), (_, client_ca)) => {
            Ok(Some(TlsFiles { certificate, key, client_ca }))
        }
        ((_, None), (_, None), (_, None)) => Ok(None),
        ((certificate, None), (key, None), (authority, Some(_))) => bail!(
            "{authority} is set, and {certificate} and {key} are not; callers present a certificate over TLS alone: set all \
             three, or none for plain HTTP"
        ),
        ((certificate, is_set), (key, _), _) => {
            let (is, is_not) = if is_set.is_some() { (certificate, key) } else { (key, certificate) };
            bail!("{is} is set and {is_not} is not; set both for TLS, or neither for plain HTTP")
        }
    }
}
