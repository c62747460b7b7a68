//! The settings file: `.env` of the working directory or the nearest one above.
//!
//! dotenvy reads it. It would substitute `$NAME`, even inside a token, and silently cut the token there; so each `$`
//! outside single quotes is escaped before. `\$` still means `$`. Comments and quotes are dotenvy's: a value ends at
//! white space followed by `#`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const FILE_NAME: &str = ".env";

/// Reads the file into the environment, if there is one, and answers its path. What the environment has already stays.
///
/// # Errors
/// A file that is not readable or has a line that is no setting.
pub fn read_dotenv() -> anyhow::Result<Option<PathBuf>> {
    let dir = std::env::current_dir().context("cannot find the working directory")?;
    let Some(path) = find(&dir) else { return Ok(None) };
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    match dotenvy::from_read(escaped(&text).as_bytes()) {
        Ok(()) => Ok(Some(path)),
        // Its text quotes the line, which may be the one of a token.
        Err(dotenvy::Error::LineParse(..)) => bail!(
            "cannot read {}: it has a line that is no setting; each should read NAME=value, with quotes around a value that holds spaces",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn find(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().map(|dir| dir.join(FILE_NAME)).find(|path| path.is_file())
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
