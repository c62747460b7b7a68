//! The connections to one backend: a pool of HTTP/1.1 connections, each driven by the exchange that uses it.
//!
//! A pooled HTTP client drives each connection in a task of its own. Then each callback that waits wakes that task to send its
//! request and is woken by it for the answer, often on another thread, and that was most of what the relay added to an
//! answer. Here the exchange polls its connection itself. Between two exchanges nothing polls it: whether the backend has
//! closed it meanwhile is looked at before it is used again, and those that are idle for long are closed each second.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower::ServiceExt as _;

/// How long after its last request a connection is used again: less than the 5 s after which several common servers close
/// theirs, because a request that crosses such a close is lost.
const IDLE: Duration = Duration::from_secs(4);

/// More connections than there are calls of one backend; those are limited where they are made.
const CONNECTIONS_MAX: usize = 4_096;

/// How long a connection may take to be made. It ends by then where the caller has given up already.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there was no answer; a text is the innermost cause, which holds no address.
#[derive(Debug)]
pub(super) enum NoExchange {
    /// No connection.
    Unreachable(String),
    /// The connection broke, or what came is not HTTP.
    Broken(String),
}

/// The connections to one backend. Cheap to clone; clones share them.
#[derive(Clone)]
pub(super) struct Connections(Pool<Connector>);

/// Makes connections, and looks at each before it is used again.
struct Connector {
    to: Uri,
    way: ConnectWay,
}

enum ConnectWay {
    Tls(HttpsConnector<HttpConnector>),
    Loopback(HttpConnector),
}

/// A connection: the half that requests are put into, and the half that moves bytes.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    /// The driver has not ended.
    is_open: bool,
    /// No exchange was left in the middle.
    is_free: bool,
}

impl Connections {
    /// To a backend, by TLS or not; none is made yet.
    ///
    /// # Errors
    /// TLS without certificates of authorities on this machine, with what the system says.
    pub(super) fn new(to: Uri, is_tls: bool) -> std::io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let way = if is_tls {
            connector.enforce_http(false);
            let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1();
            ConnectWay::Tls(tls.wrap_connector(connector))
        } else {
            ConnectWay::Loopback(connector)
        };
        // In turn, so that at a steady rate none is idle until it is closed, and made anew while a callback waits.
        let pool = Pool::builder(Connector { to, way }).max_size(CONNECTIONS_MAX).queue_mode(QueueMode::Fifo);
        match pool.build() {
            Ok(pool) => Ok(Self(pool)),
            Err(error) => unreachable!("only time limits of the pool's own need a runtime: {error}"),
        }
    }

    /// Sends a request and reads its answer by `read`. A request of which a connection took nothing, because the backend
    /// had closed it, goes to another one; otherwise nothing is sent again.
    pub(super) async fn exchange<T, F>(
        &self,
        mut request: Request<Full<Bytes>>,
        read: impl Fn(Response<Incoming>) -> F,
    ) -> Result<T, NoExchange>
    where
        F: Future<Output = T>,
    {
        loop {
            let mut connection = match self.0.get().await {
                Ok(connection) => connection,
                Err(PoolError::Backend(fault)) => return Err(fault),
                Err(_) => unreachable!("the pool has no time limits and is never closed"),
            };
            let was_used = Object::metrics(&connection).recycle_count > 0;
            match connection.exchange(request, &read).await {
                Ok(done) => return Ok(done),
                Err((_, Some(unsent))) if was_used => request = unsent,
                Err((error, _)) => return Err(NoExchange::Broken(innermost_cause(&error))),
            }
        }
    }

    /// Closes connections that were not used for long.
    pub(super) fn close_idle(&self) {
        drop(self.0.retain(|_, metrics| metrics.last_used() < IDLE));
    }
}

impl Connector {
    async fn connect(&self) -> Result<Connection, NoExchange> {
        match &self.way {
            ConnectWay::Tls(connector) => {
                let io = connector.clone().oneshot(self.to.clone()).await;
                Connection::begin(io.map_err(|error| unreachable_backend(&*error))?).await
            }
            ConnectWay::Loopback(connector) => {
                let io = connector.clone().oneshot(self.to.clone()).await;
                Connection::begin(io.map_err(|error| unreachable_backend(&error))?).await
            }
        }
    }
}

impl Manager for Connector {
    type Type = Connection;
    type Error = NoExchange;

    async fn create(&self) -> Result<Connection, NoExchange> {
        // Boxed, because it is rare and large: every exchange would carry its size.
        Box::pin(self.connect()).await
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<NoExchange> {
        if metrics.last_used() < IDLE && connection.can_go_on() {
            return Ok(());
        }
        Err(RecycleError::message("idle for too long, closed, or in the middle of an exchange"))
    }
}

impl Connection {
    async fn begin(io: impl Read + Write + Unpin + Send + 'static) -> Result<Self, NoExchange> {
        let begun = handshake(io).await;
        let (sender, driver) = begun.map_err(|error| NoExchange::Broken(innermost_cause(&error)))?;
        Ok(Self { sender, driver: Box::pin(driver), is_open: true, is_free: true })
    }

    /// Lets the driver do what can be done at once.
    fn drive(&mut self, context: &mut Context<'_>) {
        if self.is_open && self.driver.as_mut().poll(context).is_ready() {
            self.is_open = false;
        }
    }

    /// True where the last exchange has ended and the backend has not closed the connection.
    fn can_go_on(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_open && self.is_free && self.sender.is_ready()
    }

    /// One exchange. Where nothing of the request was sent it comes back.
    async fn exchange<T, F>(
        &mut self,
        request: Request<Full<Bytes>>,
        read: impl Fn(Response<Incoming>) -> F,
    ) -> Result<T, (hyper::Error, Option<Request<Full<Bytes>>>)>
    where
        F: Future<Output = T>,
    {
        self.is_free = false;
        let sent = self.sender.try_send_request(request);
        let mut answering = pin!(async {
            match sent.await {
                Ok(answer) => Ok(read(answer).await),
                Err(mut failed) => {
                    let request = failed.take_message();
                    Err((failed.into_error(), request))
                }
            }
        });
        let done = poll_fn(|context| {
            if let Poll::Ready(done) = answering.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            if self.is_open && self.driver.as_mut().poll(context).is_ready() {
                self.is_open = false;
            }
            // What has just come is taken now, and not after this task was woken once more.
            answering.as_mut().poll(context)
        });
        let done = done.await;
        self.is_free = true;
        done
    }
}

fn unreachable_backend(error: &(dyn std::error::Error + 'static)) -> NoExchange {
    NoExchange::Unreachable(innermost_cause(error))
}

/// "Connection refused" says more than "client error".
pub(super) fn innermost_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    async fn backend() -> (TcpListener, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (listener, Connections::new(to, false).unwrap())
    }

    /// Asks for a word; answers the body that came.
    async fn asked(connections: &Connections, word: &str) -> Result<String, NoExchange> {
        let request = Request::post("/").header("Host", "backend").body(Full::new(word.to_owned().into()));
        let read = async |answer: Response<Incoming>| answer.into_body().collect().await.unwrap().to_bytes();
        let body = connections.exchange(request.unwrap(), read).await?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    /// Reads a request up to its last byte, which is that of its word.
    async fn read(stream: &mut TcpStream, word: &str) {
        let mut request = Vec::new();
        while !request.ends_with(word.as_bytes()) {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends");
        }
    }

    async fn answer(stream: &mut TcpStream, word: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn exchanges_go_over_one_connection_one_after_the_other() {
        let (listener, connections) = backend().await;
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for word in ["one", "two", "three"] {
                read(&mut stream, word).await;
                answer(&mut stream, word).await;
            }
        };
        let asking = async {
            for word in ["one", "two", "three"] {
                assert_eq!(asked(&connections, word).await.unwrap(), word);
            }
        };
        tokio::join!(answering, asking);
    }

    #[tokio::test]
    async fn a_connection_that_the_backend_closed_while_it_was_idle_is_replaced() {
        let (listener, connections) = backend().await;
        for word in ["one", "two", "three"] {
            let answering = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                read(&mut stream, word).await;
                answer(&mut stream, word).await;
                stream.shutdown().await.unwrap();
                // The other side closes too, or has not looked yet.
                drop(stream);
            };
            let (asked, ()) = tokio::join!(asked(&connections, word), answering);
            assert_eq!(asked.unwrap(), word);
        }
    }

    #[tokio::test]
    async fn an_exchange_that_is_given_up_leaves_its_late_answer_to_no_other() {
        let (listener, connections) = backend().await;
        let (mut first, given_up) = {
            let accepting = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                read(&mut stream, "one").await;
                stream
            };
            let mut asking = Box::pin(asked(&connections, "one"));
            let stream = tokio::select! {
                _ = &mut asking => panic!("nothing was answered"),
                stream = accepting => stream,
            };
            (stream, asking)
        };
        drop(given_up);
        answer(&mut first, "one").await;
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read(&mut stream, "two").await;
            answer(&mut stream, "two").await;
        };
        let (asked, ()) = tokio::join!(asked(&connections, "two"), answering);
        assert_eq!(asked.unwrap(), "two");
    }

    #[tokio::test]
    async fn connections_that_were_not_used_for_long_are_closed() {
        let (listener, connections) = backend().await;
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read(&mut stream, "one").await;
            answer(&mut stream, "one").await;
            stream
        };
        let (asked, mut stream) = tokio::join!(asked(&connections, "one"), answering);
        assert_eq!(asked.unwrap(), "one");
        connections.close_idle();
        let mut byte = [0];
        let is_kept = async |stream: &mut TcpStream, byte: &mut [u8]| {
            timeout(Duration::from_millis(20), stream.read(byte)).await.is_err()
        };
        assert!(is_kept(&mut stream, &mut byte).await, "it was used a moment ago");
        let closed = async {
            loop {
                connections.close_idle();
                if !is_kept(&mut stream, &mut byte).await {
                    break;
                }
            }
        };
        timeout(IDLE * 4, closed).await.expect("it is closed");
    }
}
