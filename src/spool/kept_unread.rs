//! Files of kept records that cannot be read whole when they are to be sent again: what of them is in the spool is all that
//! could be read, so each gets another name, is never deleted, and its period is noted as a gap.
//!
//! Each later start reads it once more (`salvage`), for a person may have made it readable again. How many callbacks are
//! missing is not known: what was found, and what the database has, are among them.

use std::path::{Path, PathBuf};

use super::losses::{Gap, KEPT_UNREAD, Losses};
use super::moved::name_time;
use crate::files::FileError;
use crate::model::Millis;

/// What the name of a file of kept records begins with; a number of ten digits follows.
pub(super) const NAME_BEGIN: &str = "kept-";

/// What stands between the name that the file had and the time at which it was set aside.
const ASIDE_MARK: &str = ".unread-";

/// Whether a file of this name was set aside.
pub(super) fn is_set_aside(name: &str) -> bool {
    name.starts_with(NAME_BEGIN) && name.contains(ASIDE_MARK)
}

/// The name that a file gets. No two are the same, because numbers begin anew once all files are gone.
pub(super) fn aside_name(name: &str, at: Millis) -> String {
    format!("{name}{ASIDE_MARK}{}", name_time(at))
}

/// Notes the gap of a file whose records were appended in this period, with where it is now.
pub(super) fn note(
    losses: &Losses,
    file: &Path,
    moved: Result<PathBuf, FileError>,
    cause: &str,
    (first_ms, last_ms): (i64, i64),
) {
    let now = match moved {
        Ok(path) => format!(
            "it is kept as {}, and each start reads it again: give it back its owner and its mode, or put a copy of what the \
             disk still gives in its place, and restart",
            path.display()
        ),
        Err(error) if error.is_missing() => "it is not there any more".to_owned(),
        Err(error) => format!("it cannot be set aside ({error}): move a copy of it to another directory"),
    };
    tracing::error!(
        gap.first_ms = first_ms,
        gap.last_ms = last_ms,
        gap.cause = KEPT_UNREAD,
        cause,
        "a gap: the database lacks commits, or may lack them, and not all of what was kept of this period in {} can be read \
         ({cause}); {now}",
        file.display()
    );
    losses.note_ended(Gap { app: None, first_ms, last_ms, callbacks: 0, cause: KEPT_UNREAD.to_owned() });
}
