//! A backend behind TLS: certificates are verified, with the authorities of `SSL_CERT_FILE` where that is set.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::AsyncWriteExt as _;

use super::verdicts::{BEFORE_CREATE, before, target};
use crate::support::load::read_answer;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::raw_backend::{Backend, Conduct, Got, Sender, allowed};
use crate::support::tls::{Authority, CertificateFiles, Offer, connect, connector};
use crate::support::{App, eventually, sample};

/// nginx, which ends TLS in front of a backend.
struct TlsFront {
    process: Child,
    port: u16,
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate of `localhost`, which is its own authority; false where a program is missing.
fn certificate(dir: &Path) -> bool {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
                     -keyout key.pem -out cert.pem";
    let run = Command::new("openssl").current_dir(dir).args(arguments.split_whitespace()).output();
    run.is_ok_and(|output| output.status.success())
}

impl TlsFront {
    async fn start(dir: &Path, backend: &Backend) -> Option<Self> {
        let free = Backend::start(Conduct::Silent);
        let port = free.address.port();
        free.stop().await;
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {{ }}
             http {{
                 access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
                 scgi_temp_path s; ssl_certificate {0}/cert.pem; ssl_certificate_key {0}/key.pem;
                 server {{ listen 127.0.0.1:{port} ssl; location / {{ proxy_pass http://{1}; }} }}
             }}",
            dir.display(),
            backend.address
        );
        std::fs::write(dir.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).stderr(Stdio::null());
        let front = Self { process: command.spawn().ok()?, port };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        assert!(eventually(async || tokio::net::TcpStream::connect(address).await.is_ok()).await);
        Some(front)
    }
}

async fn ask(service: &Process) -> Got {
    let mut sender = Sender::connect(service.callback_address().parse().unwrap()).await;
    sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn a_certificate_of_a_known_authority_is_accepted_and_another_gets_the_fallback() {
    let backend = Backend::start(allowed());
    let dir = tempfile::tempdir().unwrap();
    let has_certificate = certificate(dir.path());
    let front = if has_certificate { TlsFront::start(dir.path(), &backend).await } else { None };
    let Some(front) = front else {
        eprintln!("skipped: nginx or openssl is not installed");
        return;
    };
    let database = TestDatabase::create().await;
    let (place, other) = (Place::new(), Place::new());
    let serve = |place: &Place, host: &str, authorities: Option<&Path>| {
        let mut command = place.command_on(&database.url, &[]);
        command.env("RELAY_URL", format!("https://{host}:{}/", front.port));
        authorities.map(|path| command.env("SSL_CERT_FILE", path));
        Process::start(command).ready()
    };
    let known = dir.path().join("cert.pem");
    let service = serve(&place, "localhost", Some(&known)).await;
    let got = ask(&service).await;
    assert_eq!(got.status, 200, "{}", service.log());
    assert!(got.text().contains("asked"));
    // The name has to be that of the certificate.
    for (host, authorities) in [("127.0.0.1", Some(&*known)), ("localhost", None)] {
        let service = serve(&other, host, authorities).await;
        assert_eq!(ask(&service).await.status, 503, "{host}");
        let logged = eventually(async || service.log().contains("certificate")).await;
        assert!(logged, "{}", service.log());
        service.ends_well_on("TERM").await;
    }
    assert_eq!(backend.seen_count(), 1);
}

#[tokio::test]
async fn over_tls_of_its_own_the_mirror_names_the_sender_to_the_backend_at_once_and_with_what_is_stored() {
    let backend = Backend::start(allowed());
    let url = backend.url("/");
    let authority = Authority::new();
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let app = App::start_with(|settings| {
        settings.relay_url = Some(url);
        files.set(settings);
    })
    .await;
    let address = app.service.running.callback_addr.to_string();
    let connector = connector(&authority, &Offer::default());
    let create = "Group.CallbackAfterCreateGroup";
    let bodies = [(BEFORE_CREATE, before(BEFORE_CREATE)), (create, sample(create).to_string().into_bytes())];
    for (command, body) in bodies {
        let mut stream = connect(&address, &connector).await.unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7\r\nContent-Length: {}\r\n\r\n",
            target(command),
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200, "{command}");
    }
    assert!(eventually(async || backend.seen_count() == 2).await);
    for seen in backend.seen() {
        assert_eq!(seen.header("x-forwarded-for"), Some("198.51.100.7, 127.0.0.1"), "{}", seen.line);
    }
    app.stop().await;
}
