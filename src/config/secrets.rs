//! Where a secret comes from: the variable `X`, or the file that `X_FILE` names, as container platforms mount it.
//!
//! A list in a variable is separated by commas; in a file each line is one value, which may hold commas. An empty value
//! is an error and never "no token": what is set by mistake must not open a listener. No error shows a value.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, bail, ensure};

use super::values::{list, set};

/// The largest file of secrets that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Write permission of everybody.
const WRITE_OF_ALL: u32 = 0o002;

/// One secret and its two sources, of which at most one may be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secret<'a> {
    pub(super) name: &'static str,
    value: Option<&'a String>,
    file: Option<&'a String>,
}

impl<'a> Secret<'a> {
    pub(super) fn new(name: &'static str, value: Option<&'a String>, file: Option<&'a String>) -> Self {
        Self { name, value, file }
    }

    pub(super) fn is_set(&self) -> bool {
        set(self.value).or(set(self.file)).is_some()
    }

    /// Where its values stand, for an error.
    pub(super) fn source(&self) -> String {
        let name = self.name;
        set(self.file).map_or_else(|| name.to_owned(), |path| format!("{name}_FILE ({path})"))
    }

    /// Refuses both sources at once: which of them counts would be a guess.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let name = self.name;
        ensure!(
            set(self.value).is_none() || set(self.file).is_none(),
            "{name} and {name}_FILE are both set; unset one of them"
        );
        Ok(())
    }

    /// Its one value, which may hold commas; none where it is not set.
    pub(super) fn one_value(&self) -> anyhow::Result<Option<String>> {
        self.check()?;
        if let (Some(value), None) = (set(self.value), set(self.file)) {
            return Ok(Some(value.to_owned()));
        }
        let mut values = self.values()?;
        ensure!(values.len() <= 1, "{} holds {} lines; it should be one", self.source(), values.len());
        Ok(values.pop())
    }

    /// Its values, without white space around them; none where it is not set.
    pub(super) fn values(&self) -> anyhow::Result<Vec<String>> {
        self.check()?;
        if let Some(path) = set(self.file) {
            let text = read(path).with_context(|| format!("{}_FILE", self.name))?;
            let values: Vec<String> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            ensure!(
                !values.is_empty(),
                "{}_FILE: {path} is empty; it should hold one value a line",
                self.name
            );
            return Ok(values);
        }
        let Some(text) = set(self.value) else { return Ok(Vec::new()) };
        list(self.name, text)
    }
}

/// The text of a file of secrets. It may be a link, a pipe, or another user's, as platforms mount secrets so; but not
/// writable by everybody, who could choose the tokens.
fn read(path: &str) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    let mode = file.metadata().with_context(|| format!("cannot look at {path}"))?.permissions().mode();
    if mode & WRITE_OF_ALL != 0 {
        bail!("{path} can be written by every user (mode {:04o}); `chmod o-w` it", mode & 0o7777);
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {path}"))?;
    ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "{path} has more than {FILE_BYTES_MAX} bytes");
    String::from_utf8(bytes).ok().with_context(|| format!("{path} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::Secret;

    #[test]
    fn a_value_is_never_empty_and_one_in_a_file_may_hold_commas() {
        let values = |text: &str| {
            Secret::new("X", Some(&text.to_owned()), None).values().map_err(|error| error.to_string())
        };
        assert_eq!(values(" a , b,c "), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(values("  "), Ok(Vec::new()));
        for text in [",", "a,", ",a", "a,,b", "a, ,b"] {
            assert!(values(text).unwrap_err().contains("X has an empty value"), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret").display().to_string();
        let in_file = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Secret::new("X", None, Some(&path)).values().map_err(|error| format!("{error:#}"))
        };
        assert_eq!(in_file("a,b\r\n\n  c \n"), Ok(vec!["a,b".into(), "c".into()]));
        assert!(in_file(" \n\n").unwrap_err().contains("is empty"));
        assert!(in_file(&"x".repeat(70_000)).unwrap_err().contains("more than 65536 bytes"));
        assert!(
            Secret::new("X", Some(&path), Some(&path)).values().unwrap_err().to_string().contains("both")
        );
        in_file("a").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).unwrap();
        let error = format!("{:#}", Secret::new("X", None, Some(&path)).values().unwrap_err());
        assert!(
            error.starts_with("X_FILE: ") && error.contains("written by every user (mode 0646)"),
            "{error}"
        );
    }
}
