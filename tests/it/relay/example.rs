//! The backend of the documents, as a newcomer starts it.

use std::process::{Child, Command, Stdio};

use super::verdicts::{BEFORE_CREATE, before, target};
use crate::support::raw_backend::{Backend, Sender, allowed};
use crate::support::{OK, Service, eventually, settings};

struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn the_example_of_the_documents_answers_before_callbacks_and_prints_the_others() {
    let free = Backend::start(allowed());
    let address = free.address;
    free.stop().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example-backend.py");
    let printed = tempfile::NamedTempFile::new().unwrap();
    let output = Stdio::from(printed.reopen().unwrap());
    let run = Command::new("python3").args([script, &address.port().to_string()]).stdout(output).spawn();
    let Ok(child) = run else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    let _example = Example(child);
    assert!(eventually(async || tokio::net::TcpStream::connect(address).await.is_ok()).await);
    let mut settings = settings("postgres://nobody@127.0.0.1:1/none?sslmode=disable");
    settings.relay_url = Some(format!("http://{address}/"));
    let service = Service::start_at_once(&settings).await.unwrap();
    let mut sender = Sender::connect(service.running.callback_addr).await;
    let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
    assert_eq!((got.status, got.text()), (200, r#"{"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}"#));
    let got = sender.post(&target(BEFORE_CREATE), "", br#"{"Name":"forbidden"}"#).await;
    assert!(got.text().contains("10100"), "{}", got.text());
    let message = "Group.CallbackAfterSendMsg";
    let got = sender.post(&target(message), "", &before(message)).await;
    assert_eq!((got.status, got.text()), (200, OK));
    let come = eventually(async || std::fs::read_to_string(printed.path()).unwrap().contains(message)).await;
    assert!(come, "the notification is printed");
    service.stop().await;
}
