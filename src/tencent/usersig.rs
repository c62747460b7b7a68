//! UserSig, the signature of a REST call (TLSSigAPIv2): made, and verified as the fake does.
//!
//! HMAC-SHA256 over four lines, with the key as it stands in the console (its hexadecimal digits are not decoded), goes
//! into a JSON object, which is compressed by zlib and written in Base64 with `*`, `-`, `_` for `+`, `/`, `=`. Order of
//! the keys, white space and the level of compression do not matter, because Tencent's own packages differ in them
//! (1047/34385 and those packages). A UserSig gives an administrator's rights until it expires, so
//! neither it nor the key is ever printed.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::model::SdkAppId;

/// The longest UserSig that is read, and the largest object in it, in bytes; a real one has about 200.
const SIG_BYTES_MAX: usize = 4096;

/// The secret key of an app, as it stands in the console. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

impl SecretKey {
    /// The text of the console.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Who signs, for which app.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The key.
    pub key: &'a SecretKey,
    /// The app.
    pub app: SdkAppId,
    /// The account; an administrator of the app may call the REST API.
    pub identifier: &'a str,
}

/// Why a UserSig is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SigFault {
    /// Not Base64, not zlib, or not the object.
    #[error("the UserSig cannot be read")]
    Malformed,
    /// Its time is over.
    #[error("the UserSig has expired")]
    Expired,
    /// Made with another key.
    #[error("the UserSig was made with another key")]
    WrongKey,
    /// Made for another account.
    #[error("the UserSig is another account's")]
    WrongUser,
    /// Made for another app.
    #[error("the UserSig is another app's")]
    WrongApp,
}

impl Signer<'_> {
    /// `TLS.sig`.
    fn digest(&self, time_secs: i64, expire_secs: i64) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.0.as_bytes()) else {
            unreachable!("HMAC takes keys of any length")
        };
        let (identifier, app) = (self.identifier, self.app);
        let lines = format!(
            "TLS.identifier:{identifier}\nTLS.sdkappid:{app}\nTLS.time:{time_secs}\nTLS.expire:{expire_secs}\n"
        );
        mac.update(lines.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// A UserSig that is valid for `expire_secs` from `time_secs`.
    #[must_use]
    pub fn sign(&self, time_secs: i64, expire_secs: i64) -> String {
        let object = json!({
            "TLS.ver": "2.0", "TLS.identifier": self.identifier, "TLS.sdkappid": self.app.get(),
            "TLS.time": time_secs, "TLS.expire": expire_secs,
            "TLS.sig": STANDARD.encode(self.digest(time_secs, expire_secs)),
        });
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        let written = zlib.write_all(object.to_string().as_bytes()).and_then(|()| zlib.finish());
        let Ok(compressed) = written else { unreachable!("a Vec takes all that is written to it") };
        let replaced = |mark: char| match mark {
            '+' => '*',
            '/' => '-',
            '=' => '_',
            other => other,
        };
        STANDARD.encode(compressed).chars().map(replaced).collect()
    }

    /// Whether a UserSig is this signer's and still good at `now_secs`; at exactly its end it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, user_sig: &str, now_secs: i64) -> Result<(), SigFault> {
        let object = unpacked(user_sig).ok_or(SigFault::Malformed)?;
        let number = |key: &str| object[key].as_i64().ok_or(SigFault::Malformed);
        let text = |key: &str| object[key].as_str().ok_or(SigFault::Malformed);
        let (time_secs, expire_secs) = (number("TLS.time")?, number("TLS.expire")?);
        let sig = STANDARD.decode(text("TLS.sig")?).map_err(|_| SigFault::Malformed)?;
        if number("TLS.sdkappid")? != self.app.get() {
            return Err(SigFault::WrongApp);
        }
        if text("TLS.identifier")? != self.identifier {
            return Err(SigFault::WrongUser);
        }
        if !bool::from(self.digest(time_secs, expire_secs).as_slice().ct_eq(&sig)) {
            return Err(SigFault::WrongKey);
        }
        if now_secs > time_secs.saturating_add(expire_secs) { Err(SigFault::Expired) } else { Ok(()) }
    }
}

/// The object in a UserSig.
fn unpacked(user_sig: &str) -> Option<Value> {
    if user_sig.len() > SIG_BYTES_MAX {
        return None;
    }
    let replaced = |mark: char| match mark {
        '*' => '+',
        '-' => '/',
        '_' => '=',
        other => other,
    };
    let base64: String = user_sig.chars().map(replaced).collect();
    let compressed = STANDARD.decode(base64).ok()?;
    let mut object = Vec::new();
    let limit = SIG_BYTES_MAX as u64;
    ZlibDecoder::new(compressed.as_slice()).take(limit).read_to_end(&mut object).ok()?;
    serde_json::from_slice(&object).ok()
}
