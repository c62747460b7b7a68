//! A connection's bytes: reports what comes to the connection's state, cuts a peer that takes nothing, and closes so that
//! the peer can read the last answer.
//!
//! The last is a lingering close. A socket that is closed with unread bytes in it is reset, and a reset destroys an answer
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

/// The stream of one connection.
pub(super) struct TrackedStream {
    inner: Pin<Box<TimeoutStream<TcpStream>>>,
    activity: Arc<Activity>,
    unsent: bool,
    /// Bytes that may still be dropped; none: the sending side is open.
    lingering: Option<usize>,
}

impl TrackedStream {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_WAIT_MAX));
        Self { inner: Box::pin(stream), activity, unsent: false, lingering: None }
    }

    fn sent<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() != self.unsent {
            self.unsent = result.is_pending();
            self.activity.set_unsent(self.unsent);
        }
        result
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.inner.as_mut().poll_read(cx, buffer))?;
        assert!(buffer.filled().len() >= before, "a read only adds to its buffer");
        let received = &buffer.filled()[before..];
        if !received.is_empty() {
            self.activity.received(received);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TrackedStream {
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

    /// Closes the sending side, then drops what comes until the peer has closed as well or the limit is reached. The
    /// connection's task keeps the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = match self.lingering {
            Some(left) => left,
            None => {
                ready!(self.inner.as_mut().poll_shutdown(cx))?;
                self.activity.lingers();
                LINGER_BYTES_MAX
            }
        };
        let mut bytes = [0; LINGER_READ_BYTES];
        loop {
            self.lingering = Some(left);
            let mut buffer = ReadBuf::new(&mut bytes);
            match self.inner.as_mut().poll_read(cx, &mut buffer) {
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
