//! The HTTP client of the listeners of a `serve` on this machine: plain or over TLS, as the settings say.
//!
//! Over TLS a listener is known by its certificate itself (certificate pinning): it has to be the one in the file of the
//! settings. Names and authorities cannot be looked at, because the listener is reached by its address. So a token is sent
//! to that program alone whose key belongs to the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::time::timeout;

use crate::files::read_followed;

/// How long an answer may take. A health check answers at once.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);

/// The largest answer that is read, and the largest file of a certificate.
const BYTES_MAX: usize = 1024 * 1024;

/// A listener of the settings.
#[derive(Debug, Clone)]
pub struct OwnListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file of its certificate; none: plain HTTP.
    pub certificate: Option<PathBuf>,
    /// It takes callers with a certificate alone.
    pub wants_certificate: bool,
    /// What stands before each path but those of health.
    pub prefix: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// No program listens.
    Refused,
    /// None in time.
    Late,
    /// The handshake of TLS fails.
    Handshake(String),
    /// No HTTP.
    NotHttp,
}

/// The client.
#[derive(Clone)]
pub(super) struct OwnClient(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl OwnClient {
    /// Connects when it asks. A file that cannot be read is that of no listener: the settings have their own error for it.
    ///
    /// # Errors
    /// TLS cannot be started.
    pub(super) fn new(listeners: &[&OwnListener]) -> anyhow::Result<Self> {
        let files = listeners.iter().filter_map(|listener| listener.certificate.as_ref());
        let read = files.filter_map(|path| read_followed(path, BYTES_MAX).ok());
        let known: Vec<CertificateDer<'static>> =
            read.filter_map(|file| CertificateDer::from_pem_slice(&file.bytes).ok()).collect();
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KnownCertificates { known, algorithms }))
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        Ok(Self(Client::builder(TokioExecutor::new()).build(tls.wrap_connector(connector))))
    }

    /// Asks for a path at an address of this machine: the status and the bytes.
    pub(super) async fn get(
        &self,
        (listener, reached_at): (&OwnListener, SocketAddr),
        path: &str,
        token: Option<&str>,
    ) -> Result<(u16, Bytes), Unanswered> {
        let scheme = if listener.certificate.is_some() { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{reached_at}{path}").parse().map_err(|_| Unanswered::NotHttp)?;
        let mut request = Request::get(uri);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|_| Unanswered::NotHttp)?;
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|error| unanswered(&error))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
            Ok((status, body.map_err(|_| Unanswered::NotHttp)?.to_bytes()))
        };
        timeout(ANSWER_WAIT_MAX, exchange).await.unwrap_or(Err(Unanswered::Late))
    }
}

impl std::fmt::Debug for OwnClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnClient")
    }
}

/// Sorts an error of the client by its causes.
fn unanswered(error: &hyper_util::client::legacy::Error) -> Unanswered {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(tls) = tls_error(cause) {
            return Unanswered::Handshake(tls.to_string());
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None if error.is_connect() => return Unanswered::Refused,
            None => return Unanswered::NotHttp,
        }
    }
}

/// An error of TLS, also inside errors of input and output, which do not name it as their source.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    cause.downcast_ref::<Error>().or_else(|| tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?))
}

/// Takes the certificates in the files of the settings and no other.
#[derive(Debug)]
struct KnownCertificates {
    known: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for KnownCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.iter().any(|known| known.as_ref() == end_entity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("its certificate is not the one in the file of the settings".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
