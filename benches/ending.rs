//! A process beside a benchmark, such as a proxy or a fake, that must not outlive it. A file of its own, because most
//! benchmarks start none and have everything of `support.rs` in use.
//!
//! A process that has ended by itself is no error here.

use std::process::Child;

/// A process that ends when this is dropped; it may have ended by itself.
pub(crate) struct Ending(pub(crate) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
