//! The listeners: whether each address is free, or used by our own service.
//!
//! Who answers there was found before; here stands what that means, and why an address at which none answers cannot be
//! used, if so.

use std::io;
use std::net::SocketAddr;

use super::line::{CheckLine, CheckSubject};
use super::service::{DirUse, PortHolder, bind};

/// What there is to say about one listener.
#[must_use]
pub fn line(subject: CheckSubject, listen: SocketAddr, served: DirUse, answering: &PortHolder) -> CheckLine {
    let name = if subject == CheckSubject::ApiListener { "API_LISTEN" } else { "CALLBACK_LISTEN" };
    match (answering, served) {
        (PortHolder::Mirror(_), DirUse::Served) => {
            CheckLine::ok(subject, format!("the running `serve` answers on {listen}"))
        }
        (PortHolder::Mirror(_), DirUse::Unknown) => {
            CheckLine::ok(subject, format!("a group-mirror answers on {listen}"))
        }
        (PortHolder::Mirror(_), DirUse::Free) => CheckLine::wrong(
            subject,
            format!("another group-mirror, of another data directory, answers on {listen}"),
            format!("set {name} to another port, or stop that one"),
        ),
        (PortHolder::Other(what), DirUse::Served) => CheckLine::warning(
            subject,
            format!("{listen} is in use, and it is not known by whom: {what}"),
            "look whether it is the `serve` that works on this data directory (`ss -ltnp` names it)",
        ),
        (PortHolder::Other(what), _) => CheckLine::wrong(
            subject,
            format!("{listen} is in use: {what}"),
            format!(
                "stop that program (`ss -ltnp` names it) or set {name} to another port; a socket of the service manager \
                 that waits for its `serve` is right"
            ),
        ),
        (PortHolder::None, _) => match bind(listen) {
            Ok(()) if listen.port() == 0 => {
                CheckLine::ok(subject, format!("{listen}: a port chosen by the system"))
            }
            Ok(()) => CheckLine::ok(subject, format!("{listen} is free")),
            Err(error) => {
                CheckLine::wrong(subject, format!("{listen} cannot be used: {error}"), remedy(&error, name))
            }
        },
    }
}

fn remedy(error: &io::Error, name: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!("set {name} to an address of this machine, or to 0.0.0.0"),
        io::ErrorKind::PermissionDenied => format!(
            "set {name} to a port from 1024 on, with a proxy in front, or let a service manager hand over the socket"
        ),
        io::ErrorKind::AddrInUse => {
            format!("set {name} to another port; `ss -ltnp` names the program that has this one")
        }
        _ => format!("set {name} to an address that can be listened on"),
    }
}
