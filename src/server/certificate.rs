//! Certificate, private key and client authority of a listener: files → a rustls configuration, or what is wrong with
//! which of them.
//!
//! The only place that knows formats, versions and cipher suites. TLS 1.2 and 1.3 with the suites of rustls (forward
//! secrecy and authenticated encryption alone), HTTP/1.1 by ALPN, no early data: a callback that could be replayed inside
//! the handshake would be taken twice. The cryptography is that of *ring*, which the REST client uses as well; it is handed
//! over explicitly, because a default of the process could be another one.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::files::{FileError, FollowedFile, read_followed};
use crate::model::Millis;

/// The largest file that is read: hundreds of certificates.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// How many of a certificate's names a log line shows.
const NAMES_SHOWN_MAX: usize = 3;

/// The protocol that is offered by ALPN; a caller that offers others alone is refused.
const PROTOCOL: &[u8] = b"http/1.1";

/// One file of a listener's TLS, with the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The setting, such as `CALLBACK_TLS_CERT`.
    pub variable: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// The files of a listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The listener's certificate, followed by those that lead to an authority.
    pub certificate: NamedFile,
    /// Its private key.
    pub key: NamedFile,
    /// The authorities of which callers have to present a certificate; none: callers present none.
    pub client_ca: Option<NamedFile>,
}

/// Why a file of a listener's TLS cannot be used. One line, which names the setting and what would be right.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// It cannot be read, or may not be trusted.
    #[error("{variable}: {source}")]
    File {
        /// The setting.
        variable: &'static str,
        /// The cause.
        source: FileError,
    },
    /// Its contents are not what the setting is for.
    #[error("{}: {} {fault}", file.variable, file.path.display())]
    Contents {
        /// The setting and the file.
        file: NamedFile,
        /// What is wrong.
        fault: CertificateFault,
    },
}

/// What is wrong with the contents of a file.
#[derive(Debug, Error)]
pub enum CertificateFault {
    /// No certificate.
    #[error("holds no certificate in PEM form; it should begin with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// PEM that cannot be read, or no certificate inside.
    #[error("holds a certificate that cannot be read ({0}); it should hold X.509 certificates in PEM form")]
    UnreadableCertificate(String),
    /// No private key.
    #[error("holds no private key in PEM form; it should hold a line such as -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// A key with a passphrase.
    #[error(
        "holds a key that is encrypted with a passphrase; it should hold the key without one (`openssl pkey`)"
    )]
    EncryptedKey,
    /// A key of a kind that TLS does not use here.
    #[error(
        "holds a key that cannot be used ({0}); it should be RSA of 2048 bits or more, ECDSA P-256, P-384 or Ed25519"
    )]
    UnusableKey(String),
    /// Another certificate's key.
    #[error(
        "is not the key of the first certificate in {0}; it should be, and the certificates that lead to an authority \
         should follow that one"
    )]
    OtherKey(String),
    /// No authority among the certificates.
    #[error("holds no authority that can be used ({0}); it should hold the CA certificates of the callers")]
    NoAuthority(String),
}

impl NamedFile {
    fn read(&self) -> Result<FollowedFile, CertificateError> {
        read_followed(&self.path, FILE_BYTES_MAX)
            .map_err(|source| CertificateError::File { variable: self.variable, source })
    }

    fn wrong(&self, fault: CertificateFault) -> CertificateError {
        CertificateError::Contents { file: self.clone(), fault }
    }
}

/// SHA-256 over the contents of all files, by which a change is noticed; the key itself is not kept for that.
pub(super) type ContentsDigest = [u8; 32];

/// What the files hold.
pub(super) struct TlsContents {
    pub(super) digest: ContentsDigest,
    certificate: Vec<u8>,
    key: FollowedFile,
    client_ca: Option<Vec<u8>>,
}

/// A certificate that can be used, and what is known of it.
#[derive(Debug)]
pub(super) struct LoadedCertificate {
    pub(super) config: Arc<ServerConfig>,
    pub(super) digest: ContentsDigest,
    /// Its names, as a log line shows them.
    pub(super) names: String,
    pub(super) validity: Validity,
    /// The mode of the key file, where every user can read it.
    pub(super) open_key_mode: Option<u32>,
}

/// When a certificate and those that lead to its authority are all valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) begins: Millis,
    pub(super) ends: Millis,
}

impl TlsFiles {
    /// What the files hold at this moment.
    pub(super) fn read(&self) -> Result<TlsContents, CertificateError> {
        let certificate = self.certificate.read()?.bytes;
        let key = self.key.read()?;
        let client_ca = self.client_ca.as_ref().map(NamedFile::read).transpose()?.map(|file| file.bytes);
        let mut digest = Sha256::new();
        for bytes in [Some(&certificate), Some(&key.bytes), client_ca.as_ref()].into_iter().flatten() {
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        }
        Ok(TlsContents { digest: digest.finalize().into(), certificate, key, client_ca })
    }

    /// The configuration that these contents make.
    pub(super) fn load(&self, contents: &TlsContents) -> Result<LoadedCertificate, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let (names, validity) = described(&self.certificate, &chain)?;
        let key = self.private_key(&contents.key.bytes)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| self.key.wrong(CertificateFault::UnusableKey(error.to_string())))?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(file), Some(bytes)) => {
                let unusable = |error: String| file.wrong(CertificateFault::NoAuthority(error));
                let mut roots = RootCertStore::empty();
                for authority in certificates(file, bytes)? {
                    roots.add(authority).map_err(|error| unusable(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder
                    .with_client_cert_verifier(verifier.build().map_err(|error| unusable(error.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                self.key.wrong(CertificateFault::OtherKey(self.certificate.path.display().to_string()))
            }
            rustls::Error::InvalidCertificate(error) => {
                self.certificate.wrong(CertificateFault::UnreadableCertificate(error.to_string()))
            }
            error => self.key.wrong(CertificateFault::UnusableKey(error.to_string())),
        })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        if self.client_ca.is_some() {
            // A resumed session would stand in for a certificate that has expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        assert_eq!(config.max_early_data_size, 0, "early data can be replayed");
        Ok(LoadedCertificate {
            config: Arc::new(config),
            digest: contents.digest,
            names,
            validity,
            open_key_mode: contents.key.open_mode,
        })
    }

    fn private_key(&self, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
        use rustls::pki_types::pem::Error;
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
            let text = String::from_utf8_lossy(bytes);
            let is_encrypted =
                text.contains("-----BEGIN ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED");
            self.key.wrong(match error {
                _ if is_encrypted => CertificateFault::EncryptedKey,
                Error::NoItemsFound => CertificateFault::NoKey,
                // The text of other errors may quote a line of the file.
                _ => CertificateFault::UnusableKey("broken PEM".to_owned()),
            })
        })
    }
}

/// The certificates of a PEM file, of which there has to be one.
fn certificates(file: &NamedFile, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found =
        read.map_err(|_| file.wrong(CertificateFault::UnreadableCertificate("broken PEM".to_owned())))?;
    if found.is_empty() {
        return Err(file.wrong(CertificateFault::NoCertificate));
    }
    Ok(found)
}

/// The names of the first certificate, and when all of them are valid: a chain ends with its first link that ends.
fn described(
    file: &NamedFile,
    chain: &[CertificateDer<'static>],
) -> Result<(String, Validity), CertificateError> {
    let mut names = None;
    let mut all = Validity { begins: Millis::new(i64::MIN), ends: Millis::new(i64::MAX) };
    for der in chain {
        let certificate = Certificate::from_der(der)
            .map_err(|error| file.wrong(CertificateFault::UnreadableCertificate(error.to_string())))?;
        let certificate = certificate.tbs_certificate();
        let millis = |time: x509_cert::time::Time| {
            Millis::new(i64::try_from(time.to_unix_duration().as_millis()).unwrap_or(i64::MAX))
        };
        let validity = certificate.validity();
        all.begins = all.begins.max(millis(validity.not_before));
        all.ends = all.ends.min(millis(validity.not_after));
        names.get_or_insert_with(|| {
            let alternatives = certificate.get_extension::<SubjectAltName>().ok().flatten();
            shown(&alternatives.map(|(_, names)| names.0).unwrap_or_default())
        });
    }
    assert!(all.begins > Millis::new(i64::MIN), "a chain has a certificate");
    Ok((names.unwrap_or_default(), all))
}

/// Some names of a certificate, as a log line shows them.
fn shown(alternatives: &[GeneralName]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in alternatives {
        if let GeneralName::DnsName(name) = name {
            names.push(name.as_str());
        }
    }
    let others = names.len().saturating_sub(NAMES_SHOWN_MAX);
    names.truncate(NAMES_SHOWN_MAX);
    match (names.is_empty(), others) {
        (true, _) => "no DNS name".to_owned(),
        (false, 0) => names.join(", "),
        (false, others) => format!("{} and {others} more", names.join(", ")),
    }
}

/// A moment as a log line shows it.
pub(super) fn moment(at: Millis) -> String {
    DateTime::from_timestamp_millis(at.get())
        .map_or_else(|| at.get().to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// In PEM form, from the first of January of one year to that of another.
    fn certificate(names: &[&str], begins: i32, ends: i32) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(begins, 1, 1), date_time_ymd(ends, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_chain_is_valid_while_all_of_it_is_and_has_the_names_of_its_first_certificate() {
        let file = NamedFile { variable: "X", path: "chain.pem".into() };
        let leaf =
            certificate(&["a.example.org", "b.example.org", "c.example.org", "d.example.org"], 2020, 2040);
        for (others, begins, ends) in [
            (String::new(), "2020-01-01T00:00:00Z", "2040-01-01T00:00:00Z"),
            (certificate(&["authority"], 2025, 2030), "2025-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
            (certificate(&["authority"], 2010, 2090), "2020-01-01T00:00:00Z", "2040-01-01T00:00:00Z"),
        ] {
            let chain = certificates(&file, format!("{leaf}\n{others}").as_bytes()).unwrap();
            let (names, validity) = described(&file, &chain).unwrap();
            assert_eq!(names, "a.example.org, b.example.org, c.example.org and 1 more");
            assert_eq!((&*moment(validity.begins), &*moment(validity.ends)), (begins, ends));
        }
        let nameless = certificates(&file, certificate(&[], 2020, 2040).as_bytes()).unwrap();
        assert_eq!(described(&file, &nameless).unwrap().0, "no DNS name");
    }
}
