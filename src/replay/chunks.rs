//! Ledger rows on their way from the database to a fold on a blocking thread, in chunks (a bounded channel).
//!
//! One chunk is read while another is folded and a third waits, so that memory does not depend on the size of a group: a
//! chunk ends after a number of rows, or of bytes and one body more.

use tokio::sync::mpsc;

use crate::store::ledger::LedgerRow;

/// A chunk ends after this many rows.
const CHUNK_ROWS: usize = 256;

/// A chunk ends after this many bytes of bodies.
const CHUNK_BYTES: usize = 512 * 1024;

/// Sends rows to a fold.
pub(super) struct ChunkSender {
    chunks: mpsc::Sender<Vec<LedgerRow>>,
    chunk: Vec<LedgerRow>,
    bytes: usize,
}

impl ChunkSender {
    /// A way for the rows, and where the fold takes them.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Vec<LedgerRow>>) {
        let (chunks, coming) = mpsc::channel(1);
        (Self { chunks, chunk: Vec::new(), bytes: 0 }, coming)
    }

    /// Sends a row, with others; false where the fold has ended, which then has the reason.
    pub(super) async fn send(&mut self, row: LedgerRow) -> bool {
        self.bytes += row.body.len();
        self.chunk.push(row);
        let is_full = self.chunk.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES;
        !is_full || self.flush().await
    }

    /// Sends what is left.
    pub(super) async fn finish(mut self) {
        self.flush().await;
    }

    async fn flush(&mut self) -> bool {
        self.bytes = 0;
        self.chunks.send(std::mem::take(&mut self.chunk)).await.is_ok()
    }
}
