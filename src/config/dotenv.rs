//! The settings file: `.env` of the working directory, never one above it.
//!
//! It decides which database gets the callbacks and who may read them, so it counts only where it belongs to root or to
//! this user and no other user can write it; else the start is refused, because a file that is silently ignored would
//! start a service with other settings than its operator believes in. The environment of the process is not changed:
//! only settings are taken, so the file can set neither `PATH` nor `LD_PRELOAD` nor a variable of libpq.
//!
//! dotenvy reads it. It would substitute `$NAME`, even inside a token, and silently cut the token there; so each `$`
//! outside single quotes is escaped before. `\$` still means `$`. Comments and quotes are dotenvy's: a value ends at
//! white space followed by `#`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::files;

const FILE_NAME: &str = ".env";

/// The largest settings file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// How many names that are no settings a warning lists.
const UNKNOWN_SHOWN_MAX: usize = 10;

/// What stands in the settings file, if there is one.
#[derive(Debug, Default)]
pub struct DotenvFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
    found: bool,
}

impl DotenvFile {
    /// Its path, for lines that a person reads.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path, where there is such a file.
    #[must_use]
    pub fn found(&self) -> Option<&Path> {
        self.found.then_some(&*self.path)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// The names in it that are no settings, once the settings were taken: they have no effect. Only what looks like the
    /// name of a variable is shown, because a line that was broken may begin with a part of a secret.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        let is_name = |name: &&String| {
            name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        let names: Vec<&str> =
            self.values.keys().filter(is_name).map(String::as_str).take(UNKNOWN_SHOWN_MAX).collect();
        let others = self.values.len() - names.len();
        let others = (others > 0).then(|| format!("{others} more"));
        let shown: Vec<&str> = names.into_iter().chain(others.as_deref()).collect();
        (!shown.is_empty()).then(|| shown.join(", "))
    }
}

/// Reads the file, if there is one.
///
/// # Errors
/// A file that other users could have written, that is not readable or has a line that is no setting.
pub fn read_dotenv() -> anyhow::Result<DotenvFile> {
    let dir = std::env::current_dir().context("cannot find the working directory")?;
    let path = dir.join(FILE_NAME);
    let Some(file) = files::open_settings(&path)? else { return Ok(DotenvFile::default()) };
    let mut text = String::new();
    let cannot_read = || format!("cannot read {}", path.display());
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(cannot_read)?;
    ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "{}: it has more than {FILE_BYTES_MAX} bytes",
        cannot_read()
    );
    let mut values = BTreeMap::new();
    for line in dotenvy::from_read_iter(escaped(&text).as_bytes()) {
        match line {
            Ok((name, value)) => {
                values.entry(name).or_insert(value);
            }
            // Its text quotes the line, which may be the one of a token.
            Err(dotenvy::Error::LineParse(..)) => bail!(
                "{}: it has a line that is no setting; each should read NAME=value, with quotes around a value that holds spaces",
                cannot_read()
            ),
            Err(error) => return Err(error).with_context(cannot_read),
        }
    }
    Ok(DotenvFile { path, values, found: true })
}

/// The same text with a backslash before each `$` that has none and stands outside single quotes. Quotes and
/// backslashes are followed as dotenvy follows them: inside single quotes a backslash escapes nothing in a value.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut quote = None;
    let mut after_backslash = false;
    let mut line_is_comment = false;
    let mut after_blank = true;
    for c in text.chars() {
        if quote.is_none() && c == '\n' {
            (line_is_comment, after_blank) = (false, true);
            after_backslash = false;
            out.push(c);
            continue;
        }
        if line_is_comment {
            out.push(c);
            continue;
        }
        match (quote, c) {
            _ if after_backslash => after_backslash = false,
            (None, '#') if after_blank => line_is_comment = true,
            (None | Some('"'), '\\') => after_backslash = true,
            (None | Some('"'), '$') => out.push('\\'),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            _ => {}
        }
        after_blank = c.is_whitespace();
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    fn values(text: &str) -> Vec<String> {
        let read = dotenvy::from_read_iter(escaped(text).into_bytes().leak() as &[u8]);
        read.map(|pair| pair.unwrap().1).collect()
    }

    #[test]
    fn a_dollar_sign_is_a_dollar_sign_wherever_it_stands() {
        for (line, value) in [
            ("A=ab$cdEF12", "ab$cdEF12"),
            ("A=p$HOME", "p$HOME"),
            ("A=${HOME}x", "${HOME}x"),
            ("A=$", "$"),
            ("A=a$$b", "a$$b"),
            (r"A=a\$b", "a$b"),
            (r"A=a\\$b", r"a\$b"),
            ("A=\"a $b\"", "a $b"),
            (r#"A="a \$b""#, "a $b"),
            ("A='a$b'", "a$b"),
            ("A=\"it's $x\"", "it's $x"),
            ("A='say \"$x'", "say \"$x"),
            ("A=a$b # costs $5, isn't it", "a$b"),
            ("A=a#$b", "a#$b"),
            ("# don't\nA=a$b", "a$b"),
            ("A='two\nlines $x'", "two\nlines $x"),
            ("export A=a$b\r\n", "a$b"),
        ] {
            assert_eq!(values(line), [value], "{line:?}");
        }
        assert_eq!(values("A=x$y # 'quote\nB=$A"), ["x$y", "$A"]);
    }
}
