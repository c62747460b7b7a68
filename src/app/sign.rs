//! The `sign` command: a callback signed as Tencent signs it, as a curl line to paste; or why a request is let in or refused.
//!
//! The signature covers the token and `RequestTime` alone, so a line can be pasted for as long as the mirror allows that
//! time to be apart from its clock. The line is quoted for a POSIX shell, and what was read from standard input stands in
//! it. Nothing is sent, and no token is printed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use form_urlencoded::Serializer;
use url::Url;

use super::sign_verdict::SignVerdict;
use crate::callback::{BODY_BYTES_MAX, Decoded, Received, decode};
use crate::check::service::reached_at;
use crate::cli::SignArgs;
use crate::clock;
use crate::config::Settings;
use crate::model::SdkAppId;

/// A notification that a client came or went: on the list of what is answered and not kept, so it proves address, app and
/// token, and leaves nothing in the mirror.
const PRESENCE: &str = r#"{"CallbackCommand":"State.StateChange","EventTime":0}"#;

/// The longest body that stands in the line itself. Linux takes 128 KiB in one argument of a program.
const INLINE_BYTES_MAX: usize = 100 * 1024;

/// The body of the callback.
enum SignedBody {
    /// It stands in the line.
    Inline(String),
    /// curl reads the file.
    File(String, Vec<u8>),
}

/// `sign`.
///
/// # Errors
/// An app or a token that is not set or cannot be used; a body that cannot be read, is larger than the mirror takes, or does not fit into a line.
pub fn sign(settings: &Settings, args: &SignArgs) -> anyhow::Result<ExitCode> {
    let now = clock::now().get() / 1000;
    let mut out = std::io::stdout();
    if let Some(request) = &args.verify {
        let verdict = SignVerdict::of(request, &settings.gate()?, args.time.map_or(now, i64::from))?;
        writeln!(out, "{verdict}")?;
        return Ok(if verdict.is_let_in() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let (app, token, _) = settings.sender(args.app.as_deref())?;
    let token = token.with_context(|| {
        format!("there is no token of app {app}; set CALLBACK_TOKEN to that of the console's callback authentication")
    })?;
    let body = body(args)?;
    let command = match &args.command {
        Some(command) => command.clone(),
        None => body.command(app)?,
    };
    let request_time = args.time.map_or(now, i64::from).to_string();
    let sign = token.sign(&request_time);
    let (url, is_own) = callback_url(settings, args.callback_url.as_deref())?;
    let query = Serializer::new(String::new())
        .append_pair("SdkAppid", &app.to_string())
        .append_pair("CallbackCommand", &command)
        .extend_pairs([("contenttype", "json"), ("ClientIP", "127.0.0.1"), ("OptPlatform", "RESTAPI")])
        .append_pair("RequestTime", &request_time)
        .append_pair("Sign", &sign)
        .finish();
    let mark = if url.query().is_some() { '&' } else { '?' };
    // The names in the certificate are those of the console's URL, not the address of this machine.
    let insecure = if is_own && url.scheme() == "https" { " --insecure" } else { "" };
    writeln!(out, "SdkAppid: {app}\nRequestTime: {request_time}\nSign: {sign}")?;
    writeln!(
        out,
        "curl -sS{insecure} -H 'Content-Type: application/json' {} {}",
        body.argument(),
        quoted(&format!("{url}{mark}{query}"))
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The URL of callbacks, and whether it is that of this machine's listener.
fn callback_url(settings: &Settings, given: Option<&str>) -> anyhow::Result<(Url, bool)> {
    if let Some(text) = given {
        let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let url = url.filter(|url| url.fragment().is_none());
        let url = url.with_context(|| {
            format!(
                "--callback-url is {text:?}; it should be a URL such as https://mirror.example.org/callback"
            )
        })?;
        return Ok((url, false));
    }
    let (listen, tls) = settings.callback_listener()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    Ok((Url::parse(&format!("{scheme}://{}/callback", reached_at(listen)))?, true))
}

fn body(args: &SignArgs) -> anyhow::Result<SignedBody> {
    let Some(path) = &args.body else {
        let text = args.data.as_deref().unwrap_or(PRESENCE).to_owned();
        return inline(text.into_bytes(), "--data");
    };
    if path.as_path() == Path::new("-") {
        return inline(read(std::io::stdin(), "standard input")?, "standard input");
    }
    let name = path.to_str().with_context(|| format!("--body: {} is not UTF-8", path.display()))?;
    let what = format!("--body: {name}");
    let file = read(File::open(path).with_context(|| what.clone())?, &what)?;
    ensure!(!file.is_empty(), "{what} is empty; an empty request is the console's check");
    ensure!(file.len() <= BODY_BYTES_MAX, "{what} has over {BODY_BYTES_MAX} bytes, which the mirror refuses");
    Ok(SignedBody::File(name.to_owned(), file))
}

/// No more than shows that it is too much: a device has no end.
fn read(from: impl std::io::Read, what: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(|| what.to_owned())?;
    Ok(bytes)
}

/// A body that stands in the line.
fn inline(bytes: Vec<u8>, what: &str) -> anyhow::Result<SignedBody> {
    ensure!(!bytes.is_empty(), "{what} is empty; an empty request is the console's check");
    ensure!(
        bytes.len() <= INLINE_BYTES_MAX,
        "{what} has over {INLINE_BYTES_MAX} bytes, which do not fit into a line; save it as a file and name that by --body"
    );
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(SignedBody::Inline(text)),
        _ => {
            bail!("{what} holds bytes that cannot stand in a line; save it as a file and name that by --body")
        }
    }
}

impl SignedBody {
    /// The command that it names, as the mirror reads it.
    fn command(&self, app: SdkAppId) -> anyhow::Result<String> {
        let bytes = match self {
            Self::Inline(text) => text.as_bytes(),
            Self::File(_, bytes) => bytes,
        };
        let received = Received::bare(app, clock::now(), bytes.to_vec());
        let command = match decode(received) {
            Decoded::Kept(callback) => callback.command,
            Decoded::OutOfScope(unkept) => unkept.command,
        };
        ensure!(
            !command.is_empty(),
            "the body names no CallbackCommand that can be read; give it by --command"
        );
        Ok(command)
    }

    /// What makes curl send it, byte by byte.
    fn argument(&self) -> String {
        match self {
            Self::Inline(text) => format!("--data-raw {}", quoted(text)),
            Self::File(name, _) => format!("--data-binary {}", quoted(&format!("@{name}"))),
        }
    }
}

/// One word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
