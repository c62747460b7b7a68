//! A proxy in front of PostgreSQL that cuts, refuses, stalls and holds back, before and after a commit.
//!
//! It listens on TCP and passes on to the server's socket, TCP or unix. It looks at what passes only to find a commit,
//! so the connection must not be encrypted.

use std::io;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What the proxy does to PostgreSQL, from now on and to what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Passes everything on.
    Fair,
    /// Refuses connections and cuts those that are open.
    Gone,
    /// Takes connections, passes nothing.
    Stalled,
    /// Holds a commit back until the mood changes.
    HoldsCommit,
    /// Holds a request to cancel a statement back until the mood changes.
    HoldsCancel,
    /// Cuts the connection when a commit is sent; the server never sees it.
    CutsBeforeCommit,
    /// Passes a commit on, and cuts the connection before its answer.
    CutsAfterCommit,
    /// Passes a commit on, and then nothing of that connection any more.
    StallsAfterCommit,
}

/// The proxy.
pub(crate) struct Proxy {
    /// The database behind it.
    pub url: String,
    mood: watch::Sender<Mood>,
}

#[derive(Debug, Clone)]
enum Server {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Proxy {
    /// In front of the database of this URL.
    pub(crate) async fn start(url: &str) -> Self {
        let options = PgConnectOptions::from_str(url).unwrap();
        let server = match options.get_socket() {
            Some(dir) => Server::Unix(dir.join(format!(".s.PGSQL.{}", options.get_port()))),
            None => Server::Tcp(options.get_host().to_owned(), options.get_port()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mood = watch::Sender::new(Mood::Fair);
        let watched = mood.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), watched.subscribe()));
            }
        });
        let mut through = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(options.get_username())
            .database(options.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        let login = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
        if let Some((_, secret)) = login.and_then(|(login, _)| login.split_once(':')) {
            through = through.password(secret);
        }
        Self { url: through.to_url_lossy().to_string(), mood }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        let options = PgConnectOptions::from_str(&self.url).unwrap();
        format!("{}:{}", options.get_host(), options.get_port())
    }

    /// A URL that names several before one database.
    pub(crate) fn url_of<const N: usize>(proxies: [&Self; N]) -> String {
        let hosts = proxies.map(Self::address).join(",");
        proxies[0].url.replacen(&proxies[0].address(), &hosts, 1)
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn pass(client: TcpStream, server: Server, mut mood: watch::Receiver<Mood>) -> io::Result<()> {
    if *mood.borrow_and_update() == Mood::Gone {
        return Ok(());
    }
    match server {
        Server::Tcp(host, port) => between(client, TcpStream::connect((host, port)).await?, mood).await,
        Server::Unix(path) => between(client, UnixStream::connect(path).await?, mood).await,
    }
}

async fn between<S: AsyncRead + AsyncWrite>(
    client: TcpStream,
    server: S,
    mut mood: watch::Receiver<Mood>,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let committing = Arc::new(watch::Sender::new(false));
    let asks = ask(from_client, to_server, mood.clone(), Arc::clone(&committing));
    let answers = answer(from_server, to_client, mood.clone(), committing.subscribe());
    tokio::select! {
        ended = asks => ended,
        ended = answers => ended,
        _ = mood.wait_for(|mood| *mood == Mood::Gone) => Ok(()),
    }
}

async fn fair(mood: &mut watch::Receiver<Mood>) {
    let _ = mood.wait_for(|mood| *mood != Mood::Stalled).await;
}

async fn ask(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mood: watch::Receiver<Mood>,
    committing: Arc<watch::Sender<bool>>,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        fair(&mut mood).await;
        if bytes[..count].windows(7).any(|window| window == b"COMMIT\0") {
            let now = *mood.borrow();
            match now {
                Mood::CutsBeforeCommit => return Ok(()),
                Mood::HoldsCommit => drop(mood.wait_for(|mood| *mood != Mood::HoldsCommit).await),
                Mood::CutsAfterCommit | Mood::StallsAfterCommit => drop(committing.send_replace(true)),
                Mood::Fair | Mood::Gone | Mood::Stalled | Mood::HoldsCancel => {}
            }
        }
        if bytes[..count].windows(17).any(|window| window == b"pg_cancel_backend") {
            let _ = mood.wait_for(|mood| *mood != Mood::HoldsCancel).await;
        }
        to.write_all(&bytes[..count]).await?;
    }
}

async fn answer(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mood: watch::Receiver<Mood>,
    committing: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        // The server has answered the commit, so it is done; the client shall not know.
        let committed = *committing.borrow();
        if committed {
            let now = *mood.borrow();
            if now == Mood::CutsAfterCommit {
                return Ok(());
            }
            std::future::pending::<()>().await;
        }
        fair(&mut mood).await;
        to.write_all(&bytes[..count]).await?;
    }
}
