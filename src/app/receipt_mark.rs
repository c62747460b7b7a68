//! The receipt mark: a small file of the data directory that says how far times of receipt have gone.
//!
//! A callback without an event time is ordered by its receipt, and receipts of one process never fall. Without the mark the
//! next process would not know of those before, so that a clock which was set back while the service restarted would make
//! a destroy seem older than its create. The file is written each second, ahead of the receipts, and not synced: it
//! outlives a kill of the process, and after a crash of the machine it is as good as the disk has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{self, ReceiptClock};
use crate::files::{Access, PrivateDir};
use crate::model::Millis;

/// The file's name in the data directory.
const FILE_NAME: &str = "receipt.mark";

/// Twenty digits of Unix milliseconds and a line end, so that one mark covers the one before.
const CONTENT_BYTES: usize = 21;

/// How often the mark is written.
const PERIOD: Duration = Duration::from_secs(1);

/// How far ahead of the last receipt: what comes until the next mark, also where that is late.
const AHEAD_MS: i64 = 2_000;

/// The open file; without it receipts begin with the clock at each start. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ReceiptMark(Option<Arc<File>>);

impl ReceiptMark {
    /// Opens the file, or makes it, and begins to give receipts where the process before has ended.
    pub(super) fn begin(dir: &Path) -> (Self, ReceiptClock) {
        let (mark, last) = Self::open(dir);
        let now = clock::now();
        let receipts = ReceiptClock::going_on_from(last, now);
        // Ahead of what comes until the next mark, which a kill may forestall. Receipts that are ahead of the clock go on at
        // half its speed, so that a process that is killed again and again gets no further ahead.
        let begun = receipts.last().map_or(i64::MIN, |last| last.get().saturating_add(AHEAD_MS / 2));
        mark.write(Some(begun.max(now.get() + AHEAD_MS)));
        (mark, receipts)
    }

    /// Opens the file, or makes it, and answers what it says. A file that cannot be used is reported and done without.
    fn open(dir: &Path) -> (Self, Option<Millis>) {
        match PrivateDir::open(dir).and_then(|dir| dir.file(FILE_NAME, Access::Write)) {
            Ok(file) => {
                let mark = read(&file);
                (Self(Some(Arc::new(file))), mark)
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "DATA_DIR: {} cannot be used; a clock that is set back while the service restarts is not noticed",
                    dir.join(FILE_NAME).display()
                );
                (Self(None), None)
            }
        }
    }

    /// Writes the mark each second in which there were receipts, until the service stops.
    pub(super) async fn keep_up(self, receipts: ReceiptClock, stop: CancellationToken) {
        let mut written = None;
        while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            let last = receipts.last();
            if last != written {
                let mark = self.clone();
                let write = move || mark.write(last.map(|last| last.get() + AHEAD_MS));
                // A disk that stalls holds up this task alone.
                let _ = tokio::task::spawn_blocking(write).await;
                written = last;
            }
        }
    }

    /// The last receipt, exactly, at the end of a service that takes no more.
    pub(super) fn finish(&self, receipts: &ReceiptClock) {
        self.write(receipts.last().map(Millis::get));
    }

    fn write(&self, mark_ms: Option<i64>) {
        let (Some(file), Some(mark_ms)) = (&self.0, mark_ms) else { return };
        let content = format!("{:020}\n", mark_ms.max(0));
        assert_eq!(content.len(), CONTENT_BYTES, "each mark has the same length");
        if let Err(error) = file.write_all_at(content.as_bytes(), 0) {
            tracing::debug!(%error, "the receipt mark cannot be written");
        }
    }
}

fn read(file: &File) -> Option<Millis> {
    let mut content = [0; CONTENT_BYTES];
    let whole: io::Result<()> = file.read_exact_at(&mut content, 0);
    whole.ok()?;
    let digits = content.strip_suffix(b"\n").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Millis::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_go_on_behind_those_of_a_process_that_was_killed_before_its_first_mark() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = clock::now().get() + 1_500;
        ReceiptMark::open(dir.path()).0.write(Some(Millis::new(ahead).get()));
        let mut last = Millis::new(ahead - 1);
        for _ in 0..5 {
            let (_killed, receipts) = ReceiptMark::begin(dir.path());
            let receipt = receipts.receipt(clock::now());
            assert!(receipt > last, "{receipt:?} comes after {last:?}");
            last = receipt;
        }
    }

    #[test]
    fn a_mark_is_read_back_and_replaced_and_one_in_part_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, none) = ReceiptMark::open(dir.path());
        assert_eq!(none, None);
        for ms in [1_700_000_000_000, 7] {
            mark.write(Some(ms));
            assert_eq!(ReceiptMark::open(dir.path()).1, Some(Millis::new(ms)));
        }
        mark.write(None);
        assert_eq!(ReceiptMark::open(dir.path()).1, Some(Millis::new(7)));
        for content in
            ["", "12", "0000000000000000000x\n", "-0000000000000000001\n", "99999999999999999999\n"]
        {
            std::fs::write(dir.path().join(FILE_NAME), content).unwrap();
            assert_eq!(ReceiptMark::open(dir.path()).1, None, "{content:?}");
        }
    }
}
