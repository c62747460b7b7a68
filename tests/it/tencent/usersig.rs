//! UserSig: Tencent's own vectors, the forms that a verifier must accept, and what it must refuse.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use group_mirror::model::SdkAppId;
use group_mirror::tencent::usersig::{SecretKey, SigFault, Signer};

/// A key, an app, an account, a time and a life, and valid signatures that other programs made of them.
struct Vector {
    key: &'static str,
    app: &'static str,
    identifier: &'static str,
    time: i64,
    expire: i64,
    valid: &'static [&'static str],
}

const VECTORS: [Vector; 2] = [
    Vector {
        key: "5f2b8c0d9e7a41d6b3c58f0e1a2d4c6b7e8f9a0b1c2d3e4f5061728394a5b6c7",
        app: "1400000001",
        identifier: "administrator",
        time: 1_767_225_600,
        expire: 86_400,
        valid: &[
            "eJw1jMsKwjAURP-lrqWPYFMtuPIBrRahSvexieFaGmMSakX8d0Ors5tzhnnD*XAKemEgAxJEMBs7cqEcXnHEjHeo0DrD3N38Bpa3TGvkkMXzaEo8GTFoNAKyBfViQg47D*KUpoQk9E8tSn*eyIvui5JWz2q5JeFNFJswHWTOaVuXal2-wj0xjwaPu3wFny**VTPL",
            // Not compressed, and with a newline at its end.
            "eAEBrwBQ-3siVExTLnZlciI6IjIuMCIsIlRMUy5pZGVudGlmaWVyIjoiYWRtaW5pc3RyYXRvciIsIlRMUy5zZGthcHBpZCI6MTQwMDAwMDAwMSwiVExTLmV4cGlyZSI6ODY0MDAsIlRMUy50aW1lIjoxNzY3MjI1NjAwLCJUTFMuc2lnIjoiNWdicHZKTTZSd1I5RTIvamVKRC83eGdJZDZrVk1uQ1Z5L0sycnFjaU9GST0ifQryKjPV",
        ],
    },
    Vector {
        key: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        app: "20000123",
        identifier: "mirror-admin_2",
        time: 1_790_000_000,
        expire: 15_552_000,
        valid: &[
            "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwrmZRUX5RbqJKbmZefFGUBXFKdmJBQWZKUpWRgZAYGhkDBFPrSjILEpVsjI0NTUFyUBESzJzQWLmlgYQADUjMx1ka4ljhJOze1pgZZKze0hytmlWeFKRuatjWERhaH5SnrdbiF9mcXBwVLC7r61SLQDzPTRN",
        ],
    },
];

fn key(text: &str) -> SecretKey {
    SecretKey::new(text.to_owned())
}

fn app(text: &str) -> SdkAppId {
    SdkAppId::parse(text).unwrap()
}

#[test]
fn signatures_that_other_programs_made_are_accepted_until_exactly_their_end() {
    for vector in &VECTORS {
        let key = key(vector.key);
        let signer = Signer { key: &key, app: app(vector.app), identifier: vector.identifier };
        let end = vector.time + vector.expire;
        for sig in vector.valid {
            assert_eq!(signer.verify(sig, vector.time), Ok(()));
            assert_eq!(signer.verify(sig, end), Ok(()), "good at exactly its end");
            assert_eq!(signer.verify(sig, end + 1), Err(SigFault::Expired));
        }
        let own = signer.sign(vector.time, vector.expire);
        assert!(own.bytes().all(|mark| mark.is_ascii_alphanumeric() || b"*-_".contains(&mark)), "{own}");
        assert_eq!(signer.verify(&own, end), Ok(()));
        assert_eq!(signer.verify(&own, end + 1), Err(SigFault::Expired));
    }
}

#[test]
fn another_key_account_or_app_is_refused() {
    let [vector, other] = &VECTORS;
    let (right, wrong) = (key(vector.key), key(other.key));
    let sig = vector.valid[0];
    let refused =
        |key, app_id, identifier| Signer { key, app: app(app_id), identifier }.verify(sig, vector.time);
    assert_eq!(refused(&wrong, vector.app, vector.identifier), Err(SigFault::WrongKey));
    assert_eq!(refused(&right, vector.app, "someone"), Err(SigFault::WrongUser));
    assert_eq!(refused(&right, other.app, vector.identifier), Err(SigFault::WrongApp));
}

/// A UserSig with this object in it.
fn packed(object: &str) -> String {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(object.as_bytes()).unwrap();
    let base64 = STANDARD.encode(zlib.finish().unwrap());
    base64.replace('+', "*").replace('/', "-").replace('=', "_")
}

/// The key is used as it stands in the console. The second digest is that of the bytes which its hexadecimal digits stand
/// for.
#[test]
fn a_key_whose_digits_are_decoded_makes_another_signature() {
    let vector = &VECTORS[1];
    let key = key(vector.key);
    let signer = Signer { key: &key, app: app(vector.app), identifier: vector.identifier };
    for (digest, verdict) in [
        ("2tAXBCGfQybCGTck5jWbr7EAVXqUobnKFTNisSSZSGM=", Ok(())),
        ("HbANWcK5UJTFgWmO9IiR5novA8/lAAb2IIOnisHmQYg=", Err(SigFault::WrongKey)),
    ] {
        let object = format!(
            r#"{{"TLS.sig":"{digest}", "TLS.expire":{}, "TLS.time":{}, "TLS.identifier":"{}",
                "TLS.sdkappid":{}, "TLS.ver":"2.0"}}"#,
            vector.expire, vector.time, vector.identifier, vector.app
        );
        assert_eq!(signer.verify(&packed(&object), vector.time), verdict, "{digest}");
    }
}

#[test]
fn what_is_no_user_sig_is_malformed_and_a_bomb_is_not_unpacked() {
    let vector = &VECTORS[0];
    let key = key(vector.key);
    let signer = Signer { key: &key, app: app(vector.app), identifier: vector.identifier };
    let bomb = packed(&format!("{{{}}}", " ".repeat(1 << 20)));
    let cut = &vector.valid[0][..100];
    for text in ["", "x", "eJw", "====", cut, &bomb, &"A".repeat(1 << 20), "é"] {
        let short: String = text.chars().take(20).collect();
        assert_eq!(signer.verify(text, vector.time), Err(SigFault::Malformed), "{short}");
    }
}

#[test]
fn a_key_is_not_printed() {
    assert_eq!(format!("{:?}", key("0123456789abcdef")), "SecretKey(…)");
}
