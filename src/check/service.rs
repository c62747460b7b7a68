//! A `serve` that runs: whether one works on the data directory, and what it says of itself.
//!
//! It is asked by HTTP on its own listeners, over TLS where they have it: health needs no token. What needs one,
//! `/v1/stats`, is asked with the token of the settings. Nothing is sent to it but reads.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use tokio::net::TcpSocket;

use super::line::{CheckLine, CheckSubject};
use super::own_client::{OwnClient, OwnListener, Unanswered};
use crate::refusals::RefusalCause;

/// What a service says of itself on its internal listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// `ready`, `not ready`, `stopping`.
    pub status: String,
    /// `ok`, or why callbacks are not committed.
    pub database: String,
    /// `ok`, or why the spool takes nothing.
    pub spool: String,
    /// Callbacks in the spool.
    pub spool_depth: u64,
    /// What they are charged with.
    pub spool_bytes: u64,
    /// Age of the oldest.
    pub spool_oldest_age_secs: Option<i64>,
}

/// Who answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// A group-mirror, with what its internal listener says; none from the public one.
    Mirror(Option<ServiceState>),
    /// Something that takes connections and is no group-mirror, or does not answer in time.
    Other(String),
    /// No program listens, or it is no address of this machine.
    None,
}

/// Whether a `serve` holds the lock of the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirUse {
    /// One does.
    Served,
    /// None does.
    Free,
    /// This user cannot look: the line about the directory says why.
    Unknown,
}

/// What `/v1/stats` says of callbacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ServiceStats {
    /// When the last one was received.
    pub last_callback_at: Option<String>,
    /// Requests that were not taken.
    pub refusals: StatsRefusals,
}

/// Requests that were not taken, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct StatsRefusals {
    /// Every cause with its count since the start.
    pub by_cause: BTreeMap<String, u64>,
}

impl ServiceStats {
    /// Of several apps: of each cause the largest count. A count has the requests that named the app, and those that named
    /// none of the service, which are in each, so that a sum would count them several times.
    #[must_use]
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(|mut largest, stats| {
            for (cause, count) in stats.refusals.by_cause {
                let known = largest.refusals.by_cause.entry(cause).or_default();
                *known = count.max(*known);
            }
            largest.last_callback_at = largest.last_callback_at.max(stats.last_callback_at);
            largest
        })
    }
}

impl StatsRefusals {
    /// How many of one cause.
    #[must_use]
    pub fn count(&self, cause: RefusalCause) -> u64 {
        self.by_cause.get(cause.label()).copied().unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct ReadyBody {
    status: String,
    database: Option<String>,
    spool: Option<ReadySpool>,
}

#[derive(Deserialize)]
struct ReadySpool {
    state: String,
    /// Null while the spool's file is being opened, as the bytes.
    depth: Option<u64>,
    bytes: Option<u64>,
    oldest_age: Option<i64>,
}

/// A client of listeners on this machine.
#[derive(Debug, Clone)]
pub struct ServiceClient(OwnClient);

impl ServiceClient {
    /// Of these listeners; it connects when it asks.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn new(listeners: &[&OwnListener]) -> anyhow::Result<Self> {
        Ok(Self(OwnClient::new(listeners)?))
    }

    /// Who answers at a listener. Nothing is sent to an address that is not this machine's, nor to a port that is free.
    pub async fn ask(&self, listener: &OwnListener) -> PortHolder {
        let may_answer = matches!(
            bind(listener.address).map_err(|error| error.kind()),
            Err(io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
        );
        if !may_answer {
            return PortHolder::None;
        }
        let other = |what: &str| PortHolder::Other(what.to_owned());
        if listener.wants_certificate {
            return other(
                "a listener that takes callers with a certificate alone cannot be asked, this has none",
            );
        }
        let answered = self.0.get((listener, reached_at(listener.address)), "/readyz", None).await;
        let (status, body) = match answered {
            Ok(answer) => answer,
            Err(Unanswered::Refused) => return PortHolder::None,
            Err(Unanswered::Late) => return other("it does not answer"),
            Err(Unanswered::Handshake(cause)) => {
                return PortHolder::Other(format!("the TLS handshake fails: {cause}"));
            }
            Err(Unanswered::NotHttp) => return other("it does not speak HTTP/1"),
        };
        match serde_json::from_slice::<ReadyBody>(&body) {
            Ok(body) if ["ready", "not ready", "stopping"].contains(&body.status.as_str()) => {
                PortHolder::Mirror(body.into_state())
            }
            _ => {
                PortHolder::Other(format!("it answers /readyz with status {status}, as no group-mirror does"))
            }
        }
    }

    /// Whether a `serve` is ready at a listener, and a line that says so.
    pub async fn readiness(&self, listener: &OwnListener) -> (bool, String) {
        let reached = reached_at(listener.address);
        let (status, body) = match self.0.get((listener, reached), "/readyz", None).await {
            Ok(answer) => answer,
            Err(cause) => return (false, format!("no answer at {reached}: {}", why(&cause))),
        };
        match serde_json::from_slice::<ReadyBody>(&body) {
            Ok(body) => (status == 200 && body.status == "ready", body.line()),
            Err(_) => {
                (false, format!("{reached} answers /readyz with status {status}, as no group-mirror does"))
            }
        }
    }

    /// What the read API says of callbacks; none where it does not let us in.
    pub async fn stats(&self, listener: &OwnListener, token: Option<&str>, app: i64) -> Option<ServiceStats> {
        let path = format!("{}/v1/stats?sdk_app_id={app}", listener.prefix);
        let asked = self.0.get((listener, reached_at(listener.address)), &path, token).await;
        let (_, body) = asked.ok().filter(|(status, _)| *status == 200)?;
        serde_json::from_slice(&body).ok()
    }
}

/// Why there is no answer, for a person.
fn why(cause: &Unanswered) -> String {
    match cause {
        Unanswered::Refused => "no program listens".to_owned(),
        Unanswered::Late => "none in time".to_owned(),
        Unanswered::Handshake(cause) => format!("the TLS handshake fails: {cause}"),
        Unanswered::NotHttp => "it does not speak HTTP/1".to_owned(),
    }
}

impl ReadyBody {
    fn line(&self) -> String {
        let mut line = self.status.clone();
        if let Some(database) = &self.database {
            line = format!("{line}; database: {database}");
        }
        match &self.spool {
            Some(spool) => {
                let waiting =
                    spool.depth.map(|depth| format!(", {depth} callbacks wait")).unwrap_or_default();
                format!("{line}; spool: {}{waiting}", spool.state)
            }
            None => line,
        }
    }

    fn into_state(self) -> Option<ServiceState> {
        let (database, spool) = (self.database?, self.spool?);
        Some(ServiceState {
            status: self.status,
            database,
            spool: spool.state,
            spool_depth: spool.depth.unwrap_or(0),
            spool_bytes: spool.bytes.unwrap_or(0),
            spool_oldest_age_secs: spool.oldest_age,
        })
    }
}

/// Whether an address can be bound. The socket is not listened on, and has `SO_REUSEADDR`, so that a `serve` which starts in
/// the same moment is not kept from its port.
pub(super) fn bind(listen: SocketAddr) -> io::Result<()> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)
}

/// Where a listener is reached from this machine.
#[must_use]
pub fn reached_at(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Whether a `serve` works on the directory, and how it fares; none where that cannot be known.
#[must_use]
pub fn line(served: DirUse, answering: &PortHolder, api_listen: SocketAddr) -> Option<CheckLine> {
    let subject = CheckSubject::Service;
    Some(match (served, answering) {
        (DirUse::Unknown, _) => return None,
        (DirUse::Free, _) => CheckLine::ok(subject, "no `serve` works on this data directory now"),
        (DirUse::Served, PortHolder::Mirror(Some(state)))
            if state.database == "ok" && state.status == "ready" =>
        {
            CheckLine::ok(subject, "a `serve` works on this data directory and commits callbacks")
        }
        (DirUse::Served, PortHolder::Mirror(Some(state))) => CheckLine::wrong(
            subject,
            format!(
                "a `serve` works on this data directory, is {} and says: {}",
                state.status, state.database
            ),
            "see the lines about the database and the spool, and its log",
        ),
        (DirUse::Served, PortHolder::Other(what)) => CheckLine::warning(
            subject,
            format!(
                "a `serve` works on this data directory, and what answers on API_LISTEN ({api_listen}) cannot be asked: {what}"
            ),
            "run this with the settings of that `serve`; after a change of its certificate, within some seconds again",
        ),
        (DirUse::Served, _) => CheckLine::warning(
            subject,
            format!("a `serve` works on this data directory, and not on API_LISTEN ({api_listen})"),
            "run this with the settings of that `serve`",
        ),
    })
}

/// Requests that a running service did not take since its start, a line for each cause with its remedy. Of several apps a
/// count is the largest one, so that all of them together are as many at least.
#[must_use]
pub fn refusal_lines(stats: &ServiceStats) -> Vec<CheckLine> {
    let subject = CheckSubject::Refusals;
    let causes = RefusalCause::callback_causes().filter(|cause| stats.refusals.count(*cause) > 0);
    let lines: Vec<CheckLine> = causes
        .map(|cause| {
            let (what, remedy) = cause.parts();
            let found = format!("{} since the start of `serve`: {what}", stats.refusals.count(cause));
            CheckLine::warning(subject, found, remedy).of(cause.label())
        })
        .collect();
    if lines.is_empty() {
        return vec![CheckLine::ok(subject, "no callback was refused since the start of `serve`")];
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{ServiceStats, reached_at, refusal_lines};
    use crate::check::line::CheckLevel;

    #[test]
    fn each_cause_of_a_refusal_is_a_line_with_its_remedy_but_for_what_strangers_send() {
        let mut stats = ServiceStats::default();
        assert_eq!(refusal_lines(&stats)[0].level, CheckLevel::Ok);
        for (cause, count) in [("wrong", 12), ("stale", 0), ("malformed", 7)] {
            stats.refusals.by_cause.insert(cause.to_owned(), count);
        }
        let lines = refusal_lines(&stats);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            lines[0].to_string(),
            "warning  refusals wrong: 12 since the start of `serve`: signature wrong; remedy: is CALLBACK_TOKEN the token of \
             the console?"
        );
    }

    #[test]
    fn refusals_of_every_app_show_and_those_of_no_app_are_not_counted_twice() {
        let stats = |wrong: u64, app: u64| {
            let mut stats = ServiceStats::default();
            stats.refusals.by_cause = [("wrong".to_owned(), wrong), ("app".to_owned(), app)].into();
            stats
        };
        let all = ServiceStats::of_all([stats(0, 3), stats(5, 3)]);
        assert_eq!(all, Some(stats(5, 3)));
        assert_eq!(ServiceStats::of_all([]), None);
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        for (listen, reached) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reached_at(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
