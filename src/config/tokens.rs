//! The tokens of both listeners: text → checked values.
//!
//! An entry of `API_TOKEN` is `[name][@APP][+raw]:token` with the token after the first colon, or a token alone. Errors
//! name an entry by its number, because what stands before a colon may be the beginning of a token that holds one.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

use super::per_app::{PerApp, ValueForm};
use super::secrets::Secret;
use crate::api::auth::ApiToken;
use crate::model::SdkAppId;

/// The fewest characters of an API token where other machines can reach the listener: 64 bits of hexadecimal digits.
pub(super) const API_TOKEN_CHARS_MIN: usize = 16;

/// The longest name of a caller.
const NAME_CHARS_MAX: usize = 64;

/// The form of an entry, for errors.
const FORM: &str =
    "it should read NAME:TOKEN, NAME@APP:TOKEN, NAME+raw:TOKEN, NAME@APP+raw:TOKEN or the token alone";

/// A token of the read API with its text, which the service itself does not keep.
pub(super) struct ReadToken {
    pub(super) text: String,
    /// The only app that it reads, if so.
    pub(super) only: Option<SdkAppId>,
    pub(super) token: ApiToken,
}

/// The tokens of callback authentication: at most two of each app. One that belongs to no named app is that of the only
/// app.
pub(super) fn callback_tokens(secret: &Secret<'_>, apps: &[SdkAppId]) -> anyhow::Result<PerApp> {
    let source = secret.source();
    let form = ValueForm { source: &source, what: "TOKEN", secret: true, shared: false };
    let mut tokens = PerApp::parse(form, secret.values()?, apps)?;
    if let [only] = apps {
        tokens.name_shared(*only);
    }
    for app in apps {
        let of_app = tokens.all_of(*app);
        ensure!(
            of_app.len() <= 2,
            "{source} holds {} tokens of app {app}; it should be one, or two while one is being replaced",
            of_app.len()
        );
        ensure!(
            of_app.len() < 2 || of_app[0] != of_app[1],
            "{source} holds the same token twice for app {app}"
        );
    }
    Ok(tokens)
}

/// The tokens of the read API of a service of these apps.
pub(super) fn api_tokens(secret: &Secret<'_>, apps: &[SdkAppId]) -> anyhow::Result<Vec<ReadToken>> {
    let (mut names, mut texts) = (BTreeSet::new(), BTreeSet::new());
    let mut tokens = Vec::new();
    for (number, entry) in secret.values()?.into_iter().enumerate() {
        let place = || format!("{}, entry {}", secret.source(), number + 1);
        let (name, token) = api_token(&entry, apps).with_context(place)?;
        ensure!(texts.insert(token.text.clone()), "{}: the token of another entry", place());
        ensure!(name.is_none_or(|name| names.insert(name)), "{}: the name of another entry", place());
        tokens.push(token);
    }
    Ok(tokens)
}

/// One entry, and the name in it.
fn api_token(entry: &str, apps: &[SdkAppId]) -> anyhow::Result<(Option<String>, ReadToken)> {
    let (rights, text) = match entry.split_once(':') {
        Some((rights, text)) => (Some(rights.trim()), text.trim()),
        None => (None, entry),
    };
    ensure!(rights != Some(""), "it has nothing before its colon; {FORM}");
    ensure!(!text.is_empty(), "it has no token; {FORM}");
    ensure!(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        "its token holds white space or a character that a header cannot carry; use letters, digits and -._~+/="
    );
    let rights = rights.unwrap_or_default();
    let (rights, raw) = match rights.strip_suffix("+raw") {
        Some(rights) => (rights, true),
        None => (rights, false),
    };
    let (name, only) = match rights.split_once('@') {
        Some((name, only)) => (name, Some(only)),
        None => (rights, None),
    };
    let only = only
        .map(|only| SdkAppId::parse(only).ok().with_context(|| format!("no app id follows the @; {FORM}")));
    let only = only.transpose()?;
    ensure!(only.is_none_or(|only| apps.contains(&only)), "the app behind the @ is not one of SDK_APP_ID");
    let name = (!name.is_empty()).then(|| name.to_owned());
    ensure!(
        name.as_deref().is_none_or(is_name),
        "its name should be 1 to {NAME_CHARS_MAX} letters, digits or -_. ; {FORM}"
    );
    let token = ApiToken::new(name.as_deref(), text).of_app(only).reading_raw(raw);
    Ok((name, ReadToken { text: text.to_owned(), only, token }))
}

/// Whether it can stand in a log line as it is, and not be taken for "no caller".
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::{api_tokens, callback_tokens};
    use crate::config::secrets::Secret;
    use crate::model::SdkAppId;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let apps = ["1400000001", "1400000003"].map(|app| SdkAppId::parse(app).unwrap());
        let tokens = api_tokens(&Secret::new("API_TOKEN", Some(&text.to_owned()), None), &apps);
        let shown = |tokens: Vec<super::ReadToken>| {
            tokens.into_iter().map(|token| format!("{:?} = {}", token.token, token.text)).collect()
        };
        tokens.map(shown).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_entry_is_name_app_and_raw_before_the_first_colon_and_the_token_behind_it() {
        let token = |name: &str, app: &str, raw: bool, text: &str| {
            format!("ApiToken {{ name: {name:?}, app: {app}, raw: {raw}, .. }} = {text}")
        };
        let app = "Some(SdkAppId(1400000001))";
        for (text, name, of, raw, read_as) in [
            ("secret", "unnamed", "None", false, "secret"),
            (" desk : spaced ", "desk", "None", false, "spaced"),
            ("desk:a:b@c+raw", "desk", "None", false, "a:b@c+raw"),
            ("desk@1400000001:s", "desk", app, false, "s"),
            ("desk+raw:s", "desk", "None", true, "s"),
            ("desk@1400000001+raw:s", "desk", app, true, "s"),
            ("@1400000001:s", "unnamed", app, false, "s"),
            ("desk@1400000003:s", "desk", "Some(SdkAppId(1400000003))", false, "s"),
            ("+raw:s", "unnamed", "None", true, "s"),
            ("secret+raw", "unnamed", "None", false, "secret+raw"),
        ] {
            assert_eq!(read(text), Ok(vec![token(name, of, raw, read_as)]), "{text}");
        }
    }

    #[test]
    fn an_entry_that_could_let_in_a_wrong_caller_or_none_is_refused_by_its_number_and_without_its_text() {
        for (text, words) in [
            ("desk:", "it has no token"),
            (":", "nothing before its colon"),
            (":hush", "nothing before its colon"),
            ("hush:x y", "white space"),
            ("hush:sécret", "a header cannot carry"),
            ("hu sh:token", "its name should be"),
            ("-:hush", "its name should be"),
            ("desk+RAW:hush", "its name should be"),
            ("desk+raw@1400000001:hush", "its name should be"),
            ("desk@hush:token", "no app id follows the @"),
            ("desk@:hush", "no app id follows the @"),
            ("desk@1400000002:hush", "is not one of SDK_APP_ID"),
            ("desk:hush1,desk:hush2", "entry 2: the name of another entry"),
            ("desk:hush,other:hush", "entry 2: the token of another entry"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("API_TOKEN, entry ") && error.contains(words), "{text}: {error}");
            assert!(!error.contains("hu"), "{error}");
        }
        assert_eq!(read("a,b,c").unwrap().len(), 3, "several without a name");
    }

    #[test]
    fn there_are_at_most_two_callback_tokens_of_an_app_and_they_differ() {
        let apps = ["1", "2"].map(|app| SdkAppId::parse(app).unwrap());
        let read = |text: &str, apps: &[SdkAppId]| {
            callback_tokens(&Secret::new("CALLBACK_TOKEN", Some(&text.to_owned()), None), apps)
        };
        let of_first = |text: &str| read(text, &apps[..1]).unwrap().all_of(apps[0]).to_vec();
        assert_eq!(of_first(" a , b:c "), ["a", "b:c"]);
        assert_eq!(of_first("1:a,b"), ["a", "b"], "the only app may be named or not");
        for text in ["a,b,c", "a,a", "a,1:a", "1:a,b,c", ","] {
            assert!(read(text, &apps[..1]).is_err(), "{text}");
        }
        let both = read("1:a,2:a,1:b,2:c", &apps).unwrap();
        assert_eq!(
            (both.all_of(apps[0]), both.all_of(apps[1])),
            (&["a".to_owned(), "b".into()][..], &["a".to_owned(), "c".into()][..])
        );
        for text in ["1:a,2:b,1:c,1:d", "1:a,2:b,2:b", "a,2:b", "1:a,2:b,c"] {
            assert!(read(text, &apps).is_err(), "{text}");
        }
    }
}
