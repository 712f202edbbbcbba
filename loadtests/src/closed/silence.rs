//! Standard output is for documents: Goose would have every crate of the process log to it.

use log::{Log, Metadata, Record};

struct Silent;

impl Log for Silent {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &Record<'_>) {}

    fn flush(&self) {}
}

/// Has Goose find a logger, unless there is one.
pub(super) fn keep() {
    let _ = log::set_logger(&Silent);
}
