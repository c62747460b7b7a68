//! Certificates of a test's own authority, the files that a service reads them from, and clients that speak TLS.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use group_mirror::config::Settings;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const DAY: i64 = 86_400;

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority that clients can trust.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// For `localhost` and this name, for a year.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.issue_for(name, -1, 365)
    }

    /// Valid from and until so many days from now.
    pub(crate) fn issue_for(&self, name: &str, begins: i64, ends: i64) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned(), "localhost".to_owned()]).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let at =
            |days: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs((now + days * DAY).cast_unsigned());
        (params.not_before, params.not_after) = (at(begins), at(ends));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// The files of a service's certificate.
pub(crate) struct CertificateFiles {
    dir: TempDir,
}

impl CertificateFiles {
    pub(crate) fn holding(pair: &Pair) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.put(pair);
        files
    }

    /// The files as Kubernetes mounts a secret: links through a link to a directory.
    pub(crate) fn mounted(pair: &Pair) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.swap("first", pair);
        for name in ["cert.pem", "key.pem"] {
            symlink(format!("..data/{name}"), files.path(name)).unwrap();
        }
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that only its owner reads, exchanged in one moment.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }

    pub(crate) fn put(&self, pair: &Pair) {
        self.write("key.pem", &pair.key);
        self.write("cert.pem", &pair.certificate);
    }

    /// Both files in one moment, as Kubernetes does it.
    pub(crate) fn swap(&self, version: &str, pair: &Pair) {
        fs::create_dir(self.path(version)).unwrap();
        write(&self.path(version), "cert.pem", &pair.certificate);
        write(&self.path(version), "key.pem", &pair.key);
        symlink(version, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }

    /// The settings of the public listener.
    pub(crate) fn set(&self, settings: &mut Settings) {
        settings.callback_tls_cert = Some(self.path("cert.pem").display().to_string());
        settings.callback_tls_key = Some(self.path("key.pem").display().to_string());
    }

    /// The same as variables.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [("CALLBACK_TLS_CERT", self.path("cert.pem")), ("CALLBACK_TLS_KEY", self.path("key.pem"))]
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    let new = dir.join(format!("{name}.new"));
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, dir.join(name)).unwrap();
}

/// What a client offers; by default both versions, HTTP/1.1 and no certificate.
pub(crate) struct Offer<'a> {
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    pub(crate) protocols: &'a [&'a str],
    pub(crate) pair: Option<&'a Pair>,
}

impl Default for Offer<'_> {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, protocols: &["http/1.1"], pair: None }
    }
}

/// A client that trusts one authority.
pub(crate) fn connector(authority: &Authority, offer: &Offer<'_>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(offer.versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match offer.pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = offer.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// A connection with the handshake behind it.
pub(crate) async fn connect(
    address: impl tokio::net::ToSocketAddrs,
    connector: &TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The certificate that the service showed.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// The first certificate of a pair, as it is shown.
pub(crate) fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap().to_vec()
}

/// All that comes until the end, which may be a reset.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A GET of the internal listener's, as text, on a connection that ends with it.
pub(crate) async fn get(stream: &mut TlsStream<TcpStream>, path: &str, token: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(stream).await
}
