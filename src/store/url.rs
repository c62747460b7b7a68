//! `DATABASE_URL`: one set of connection options per host that it names.
//!
//! The driver parses a URL with one host. What it lacks is done here: several hosts (`a:5432,b:5432`), IPv6 literals,
//! whose brackets it keeps as a part of the name, and a word on a password that is not percent-encoded, which would
//! otherwise be taken for a host.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::errors::StoreError;
use super::unusable::Unusable;

/// What the server shows for a connection, unless the URL says otherwise.
const APPLICATION_NAME: &str = "group-mirror";

/// A statement that takes longer is logged.
const SLOW_STATEMENT: Duration = Duration::from_secs(2);

/// What the driver takes from the query of a URL, beside `options[…]`. `target_session_attrs` is what several hosts mean
/// here anyway.
const PARAMETERS: [&str; 19] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "target_session_attrs",
    "user",
];

/// The options of each host, in the order of the URL; there is at least one.
///
/// # Errors
/// A URL of another scheme, or one that cannot be read.
pub(super) fn parse(url: &str) -> Result<Vec<PgConnectOptions>, StoreError> {
    // The driver would speak to any server that a URL leads to.
    let (scheme, rest) = url.split_once("://").ok_or(StoreError::Scheme)?;
    if scheme != "postgres" && scheme != "postgresql" {
        return Err(StoreError::Scheme);
    }
    let parts = UrlParts::of(rest);
    if parts.is_misread() {
        return Err(Unusable::Unencoded(host_meant(rest)).into());
    }
    warn_of_unknown_parameters(parts.tail);
    let options = parts.hosts.split(',').map(|host| {
        let options = PgConnectOptions::from_str(&format!("{scheme}://{}{host}{}", parts.user, parts.tail));
        match options {
            Ok(options) => Ok(adapt(options)),
            Err(_) if parts.tail.contains('@') => Err(Unusable::Unencoded(host_meant(rest)).into()),
            Err(error) => Err(StoreError::Url(error)),
        }
    });
    options.collect()
}

/// What follows the scheme of a URL.
#[derive(Debug, Clone, Copy)]
struct UrlParts<'a> {
    /// User and password with the `@` behind them, or nothing.
    user: &'a str,
    /// One host or several, with ports.
    hosts: &'a str,
    /// Database and parameters.
    tail: &'a str,
}

impl<'a> UrlParts<'a> {
    fn of(rest: &'a str) -> Self {
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self { user, hosts, tail }
    }

    /// True where a `/`, `?` or `#` of the password has ended it: an `@` follows where none can be. A value of a
    /// parameter may hold one; a URL of a database has no fragment.
    fn is_misread(&self) -> bool {
        let (path, query) = self.tail.split_once('?').unwrap_or((self.tail, ""));
        let in_first_name = query.split_once('@').is_some_and(|(before, _)| !before.contains('='));
        self.tail.contains('#') || path.contains('@') || (self.user.is_empty() && in_first_name)
    }
}

/// The host behind the last `@`, which no part of a password can follow.
fn host_meant(rest: &str) -> String {
    let behind = rest.rsplit('@').next().unwrap_or_default();
    let hosts = behind.split(['/', '?', '#']).next().unwrap_or_default();
    // Without an `@` this may be a user with the beginning of a password.
    if rest.contains('@') { hosts.to_owned() } else { hosts.split(':').next().unwrap_or_default().to_owned() }
}

fn adapt(mut options: PgConnectOptions) -> PgConnectOptions {
    let literal = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(literal) = literal.map(str::to_owned) {
        options = options.host(&literal);
    }
    if options.get_application_name().is_none() {
        options = options.application_name(APPLICATION_NAME);
    }
    // Poolers refuse this startup parameter, which only changes numbers in text; the driver reads them in binary.
    options.extra_float_digits(None).log_slow_statements(tracing::log::LevelFilter::Warn, SLOW_STATEMENT)
}

/// Warns of parameters that the driver ignores. Its own warning quotes the value, which may be a secret, and is muted.
fn warn_of_unknown_parameters(tail: &str) {
    let query = tail.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
            tracing::warn!("DATABASE_URL: the parameter {name:?} is not known here and does nothing");
        }
    }
}

/// Where a connection leads to, as a person writes it.
pub(super) fn address(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None if host.starts_with('/') => host.to_owned(),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(url: &str) -> Vec<String> {
        parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).iter().map(address).collect()
    }

    #[test]
    fn hosts_are_read_as_libpq_reads_them() {
        for (url, wanted) in [
            ("postgres://db/mirror", vec!["db:5432"]),
            ("postgresql://u:p@[::1]:5433/mirror", vec!["[::1]:5433"]),
            ("postgres://u:p@a:1,b:2,[fe80::3]/mirror?sslmode=disable", vec!["a:1", "b:2", "[fe80::3]:5432"]),
            ("postgres://u:a,b@a,b/mirror", vec!["a:5432", "b:5432"]),
            ("postgres://%2Frun%2Fpostgresql/mirror", vec!["/run/postgresql"]),
            ("postgres://db/mirror?user=ana@corp", vec!["db:5432"]),
            ("postgres://u:p@ss:w%rd@db/mirror", vec!["db:5432"]),
        ] {
            assert_eq!(addresses(url), wanted, "{url}");
        }
    }

    #[test]
    fn a_password_that_divides_the_url_is_refused_with_the_host_and_without_the_password() {
        for password in
            ["sec/ret", "sec#ret", "sec?ret", "12/34", "12#34", "12?34", "s@ec/ret", "s?a=b", "sec:r/et"]
        {
            let error = parse(&format!("postgres://mirror:{password}@db:5433/x")).unwrap_err().to_string();
            assert!(
                error.contains("percent-encoded") && error.contains("\"db:5433\""),
                "{password}: {error}"
            );
            assert!(!error.contains(password) && !error.contains("sec"), "{error}");
        }
    }

    #[test]
    fn the_name_of_the_application_is_that_of_the_url() {
        let name = |url: &str| parse(url).ok()?.first()?.get_application_name().map(str::to_owned);
        assert_eq!(name("postgres://db/x").as_deref(), Some("group-mirror"));
        assert_eq!(name("postgres://db/x?application_name=desk").as_deref(), Some("desk"));
    }
}
