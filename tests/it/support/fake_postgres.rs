//! Servers that speak just enough of PostgreSQL's protocol to misbehave in one way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Code of a request for TLS, where the version of the protocol stands otherwise.
const SSL_REQUEST: u32 = 80_877_103;

/// A server that asks for the password in clear text, and refuses it with a message. Answers where it listens, and
/// what it has been given.
pub(crate) fn refusing(message: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let given = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&given);
    let address = listen(move |mut stream| {
        if let Ok(password) = refuse(&mut stream, message) {
            theirs.lock().unwrap().push(password);
        }
    });
    (address, given)
}

/// A server that accepts connections and never says a word.
pub(crate) fn silent() -> SocketAddr {
    let mut open = Vec::new();
    listen(move |stream| open.push(stream))
}

fn listen(mut attend: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut attend));
    address
}

fn refuse(stream: &mut TcpStream, message: &str) -> std::io::Result<String> {
    let mut first = [0; 8];
    stream.read_exact(&mut first)?;
    if u32::from_be_bytes([first[4], first[5], first[6], first[7]]) == SSL_REQUEST {
        stream.write_all(b"N")?;
        stream.read_exact(&mut first)?;
    }
    skip(stream, u32::from_be_bytes([first[0], first[1], first[2], first[3]]) - 8)?;
    send(stream, b'R', &3_u32.to_be_bytes())?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let password = skip(stream, u32::from_be_bytes([head[1], head[2], head[3], head[4]]) - 4)?;
    let fields = format!("SFATAL\0VFATAL\0C28P01\0M{message}\0\0");
    send(stream, b'E', fields.as_bytes())?;
    Ok(String::from_utf8_lossy(&password).trim_end_matches('\0').to_owned())
}

fn skip(stream: &mut TcpStream, bytes: u32) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.take(bytes.into()).read_to_end(&mut rest)?;
    Ok(rest)
}

fn send(stream: &mut TcpStream, kind: u8, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&[&[kind], &length.to_be_bytes()[..], body].concat())
}
