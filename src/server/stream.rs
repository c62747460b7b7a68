//! A connection's bytes in two layers: the wire cuts a peer that takes nothing; above it, and above TLS where there is TLS,
//! what comes is reported to the connection's state, and the end lets the peer read the last answer.
//!
//! Two layers, because a record of TLS can come without a byte of a request in it, while only the wire knows whether bytes
//! were taken. The end is a lingering close. A socket that is closed with unread bytes in it is reset, and a reset destroys an answer
//! that the peer has not read yet: the 413 to a body that is still being sent would never arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

use super::activity::Activity;

/// How long a peer may take nothing of what is sent to it; then the connection is cut. A follower of the feed resumes.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How many bytes are read and dropped after an early answer.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many bytes are dropped at once.
const LINGER_READ_BYTES: usize = 8 * 1024;

/// The socket of one connection.
pub(super) struct WireStream {
    inner: Pin<Box<TimeoutStream<TcpStream>>>,
    activity: Arc<Activity>,
    unsent: bool,
}

impl WireStream {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_WAIT_MAX));
        Self { inner: Box::pin(stream), activity, unsent: false }
    }

    fn sent<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() != self.unsent {
            self.unsent = result.is_pending();
            self.activity.set_unsent(self.unsent);
        }
        result
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.inner.as_mut().poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.wire_received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.inner.as_mut().poll_write(cx, bytes);
        self.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.inner.as_mut().poll_write_vectored(cx, slices);
        self.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_shutdown(cx)
    }
}

/// The bytes of a connection's requests and answers: those of the wire, or those inside TLS.
pub(super) struct TrackedStream<S> {
    inner: S,
    activity: Arc<Activity>,
    /// Bytes that may still be dropped; none: the sending side is open.
    lingering: Option<usize>,
}

impl<S> TrackedStream<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        assert!(buffer.filled().len() >= before, "a read only adds to its buffer");
        let received = &buffer.filled()[before..];
        if !received.is_empty() {
            self.activity.received(received);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Closes the sending side, then drops what comes until the peer has closed as well or the limit is reached. The
    /// connection's task keeps the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = match self.lingering {
            Some(left) => left,
            None => {
                ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
                self.activity.lingers();
                LINGER_BYTES_MAX
            }
        };
        let mut bytes = [0; LINGER_READ_BYTES];
        loop {
            self.lingering = Some(left);
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && left > 0 => {
                    left = left.saturating_sub(buffer.filled().len());
                }
                // The peer has closed, or has sent too much.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
