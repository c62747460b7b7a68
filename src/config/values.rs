//! Values of single settings: text from the environment or a flag → a checked value, or a line that says what is right.
//!
//! Each function names the variable, the value and the right form in its error, and never shows a secret.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use anyhow::{Context as _, bail, ensure};
use url::{Host, Url};

use crate::api::prefix::PathPrefix;
use crate::model::SdkAppId;

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

/// A path prefix; none where nothing is set.
pub(super) fn path_prefix(name: &str, text: Option<&String>) -> anyhow::Result<PathPrefix> {
    let Some(text) = set(text) else { return Ok(PathPrefix::default()) };
    PathPrefix::parse(text).with_context(|| {
        format!("{name} is {text:?}; it should be a path such as /mirror, of letters, digits and -._~")
    })
}

/// A hundred years.
const DAYS_MAX: u32 = 36_500;

/// A number of seconds in a range; `default` where nothing is set.
pub(super) fn secs(
    name: &str,
    text: Option<&String>,
    range: RangeInclusive<u64>,
    default: u64,
) -> anyhow::Result<u64> {
    let Some(text) = set(text) else { return Ok(default) };
    let (least, most) = (range.start(), range.end());
    text.parse().ok().filter(|secs| range.contains(secs)).with_context(|| {
        format!("{name} is {text:?}; it should be a number of seconds from {least} to {most}")
    })
}

/// A number of days, up to a hundred years; 0 where nothing is set.
pub(super) fn days(name: &str, text: Option<&String>) -> anyhow::Result<u32> {
    let Some(text) = set(text) else { return Ok(0) };
    text.parse().ok().filter(|days| *days <= DAYS_MAX).with_context(|| {
        format!(
            "{name} is {text:?}; it should be a number of days from 0, which is without end, to {DAYS_MAX}"
        )
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

/// Values separated by commas, without white space around them.
pub(super) fn list(name: &str, text: &str) -> anyhow::Result<Vec<String>> {
    let values: Vec<String> = text.split(',').map(|value| value.trim().to_owned()).collect();
    ensure!(
        values.iter().all(|value| !value.is_empty()),
        "{name} has an empty value beside a comma; it should be values separated by single commas"
    );
    Ok(values)
}

/// A URL to which secrets are sent: https, or plain HTTP to this machine. A URL with a user name or a password is refused,
/// and is not shown: it would stand in log lines and errors as a whole. Of another one that is wrong, errors show what stands
/// before its path: a path or a query may hold a secret.
pub(super) fn web_url(name: &str, app: SdkAppId, text: &str, form: &str) -> anyhow::Result<Url> {
    ensure!(
        !text.contains('@'),
        "{name} of app {app} holds a user name or an @; it should be {form}, without user name and password"
    );
    let shown = origin_of(text);
    let wrong = || format!("{name} of app {app} is {shown:?}; it should be {form}");
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    // The parser would repair white space, backslashes and missing slashes.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let url = Url::parse(text).ok().filter(|_| is_plain).with_context(wrong)?;
    match scheme.as_deref() {
        Some("https") => {}
        Some("http") => ensure!(
            is_loopback_host(&url),
            "{name} of app {app} is {shown:?}; it should begin with https://, because plain HTTP is for this machine alone"
        ),
        _ => bail!(wrong()),
    }
    Ok(url)
}

/// Scheme and host of what may be a URL, and a mark of what is left out.
fn origin_of(text: &str) -> String {
    let host_at = text.find("://").map_or(0, |at| at + 3);
    let end = text[host_at..].find(['/', '?', '#', '\\']).map_or(text.len(), |at| host_at + at);
    let more = if matches!(&text[end..], "" | "/") { "" } else { "/…" };
    format!("{}{more}", &text[..end])
}

fn is_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
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
    use super::{address, bytes, web_url};
    use crate::model::SdkAppId;

    #[test]
    fn a_url_is_https_or_of_this_machine_and_holds_no_user() {
        for (text, right) in [
            ("https://b.example.org/cb", true),
            ("HTTPS://b.example.org:8443/a%20b", true),
            ("https://[2001:db8::1]/", true),
            ("http://127.0.0.1:9000/cb", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]:1/", true),
            ("http://localhost", true),
            ("http://b.example.org/cb", false),
            ("http://10.0.0.7/", false),
            ("http://10.0.0.7/hooks/secret", false),
            ("http://10.0.0.7?key=secret", false),
            ("ftp://b.example.org/secret", false),
            ("b.example.org/secret", false),
            ("http://localhost.example.org/", false),
            ("http://127.0.0.1.example.org/", false),
            ("https://user:secret@b.example.org/", false),
            ("http://secret@127.0.0.1/", false),
            ("https:b.example.org", false),
            ("https:/b.example.org", false),
            ("https://b.example.org\\x", false),
            ("https://b.exa mple.org/", false),
            ("https://", false),
            ("b.example.org", false),
            ("localhost:9000", false),
            ("ftp://127.0.0.1/", false),
            ("", false),
        ] {
            let read = web_url("X", SdkAppId::parse("7").unwrap(), text, "right");
            assert_eq!(read.is_ok(), right, "{text}");
            let line = read.err().map_or_else(String::new, |error| format!("{error:#}"));
            assert!(right || (line.starts_with("X of app 7 ") && !line.contains("secret")), "{line}");
        }
    }

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
