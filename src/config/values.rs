//! Values of single settings: text from the environment or a flag → a checked value, or a line that says what is right.
//!
//! Each function names the variable, the value and the right form in its error, and never shows a secret.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};

/// The text of a setting. Unset and empty are the same: a compose file or a `.env` often has `KEY=`.
pub(super) fn set(value: Option<&String>) -> Option<&str> {
    value.map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// An address to listen on: `IP:PORT`, `localhost:PORT`, or a port alone, which means loopback.
pub(super) fn address(name: &str, text: Option<&String>, default: &str) -> anyhow::Result<SocketAddr> {
    let text = set(text).unwrap_or(default);
    let loopback = |port: &str| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
    let parsed = text.parse().ok().or_else(|| loopback(text));
    parsed.or_else(|| loopback(text.strip_prefix("localhost:")?)).with_context(|| {
        format!("{name} is {text:?}; it should be an IP address and a port such as {default}, or a port alone for loopback")
    })
}

/// A number of bytes, such as `1073741824`, `512M`, `1G` or `1GiB`; each step is 1024.
pub(super) fn bytes(name: &str, text: &str, least: u64) -> anyhow::Result<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: Option<u64> = match text[number.len()..].to_ascii_uppercase().as_str() {
        "" => Some(1),
        "K" | "KIB" => Some(1 << 10),
        "M" | "MIB" => Some(1 << 20),
        "G" | "GIB" => Some(1 << 30),
        "T" | "TIB" => Some(1 << 40),
        _ => None,
    };
    let value = number
        .trim_end()
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    value.filter(|bytes| *bytes >= least).with_context(|| {
        format!("{name} is {text:?}; it should be a number of bytes such as 1073741824, 512M or 1G, at least {least}")
    })
}

/// Whether a listener works without tokens. `none` beside a token is a contradiction, not a choice.
pub(super) fn is_open(name: &str, auth: Option<&String>, no_token: bool, safe: bool) -> anyhow::Result<bool> {
    match set(auth) {
        None => Ok(safe && no_token),
        Some("token") => Ok(false),
        Some("none") if no_token => Ok(true),
        Some("none") => bail!("{name}_AUTH is \"none\" and {name}_TOKEN is set; unset one of them"),
        Some(other) => bail!("{name}_AUTH is {other:?}; it should be token or none"),
    }
}

#[cfg(test)]
mod tests {
    use super::{address, bytes};

    #[test]
    fn an_address_may_be_a_port_alone_or_localhost() {
        for (text, parsed) in [
            ("8080", Some("127.0.0.1:8080")),
            ("localhost:8080", Some("127.0.0.1:8080")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("", Some("127.0.0.1:1")),
            (":8080", None),
            ("70000", None),
            ("db.example.org:80", None),
        ] {
            let read = address("X", Some(&text.to_owned()), "127.0.0.1:1").ok();
            assert_eq!(read, parsed.map(|parsed| parsed.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn bytes_may_have_a_unit() {
        for (text, parsed) in [
            ("1000", Some(1000)),
            ("1G", Some(1 << 30)),
            ("512m", Some(512 << 20)),
            ("2 KiB", Some(2048)),
            ("99", None),
            ("1X", None),
            ("G", None),
            ("-1G", None),
            ("99999999999T", None),
        ] {
            assert_eq!(bytes("X", text, 100).ok(), parsed, "{text}");
        }
    }
}
