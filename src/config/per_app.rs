//! Settings with a value per app: `VALUE` is for every app, `APP:VALUE` for one, several are separated by commas.
//!
//! An app is named only where the part before the first colon is all digits, because a plain URL holds colons as well, and
//! so may a token. A value that names an app which is not configured is an error, never a value that is silently unused:
//! it is a misprint, or it belongs to a service that lost an app. The errors about a secret name its entry by number,
//! because the digits before a colon may be the beginning of the secret.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};

use crate::model::SdkAppId;

/// What the values of a setting are called, for its errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueForm<'a> {
    /// Where the values stand: the name of the variable, or of its file.
    pub(super) source: &'a str,
    /// `URL`, `TOKEN`, `KEY`.
    pub(super) what: &'static str,
    /// Nothing of a secret is shown.
    pub(super) secret: bool,
    /// Whether one value can be that of several apps.
    pub(super) shared: bool,
}

/// The values of one setting, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct PerApp {
    shared: Vec<String>,
    by_app: BTreeMap<SdkAppId, Vec<String>>,
}

impl PerApp {
    /// Sorts values by app.
    ///
    /// # Errors
    /// An app that is not one of `apps`; a value for every app where each app needs its own.
    pub(super) fn parse(form: ValueForm<'_>, values: Vec<String>, apps: &[SdkAppId]) -> anyhow::Result<Self> {
        assert!(!apps.is_empty(), "a service has an app");
        let ValueForm { source, what, secret, shared } = form;
        let mut sorted = Self::default();
        for (number, entry) in values.into_iter().enumerate() {
            let place = format!("{source}, entry {}", number + 1);
            match named_app(&entry) {
                None => {
                    ensure!(
                        shared || apps.len() == 1,
                        "{place}: it names no app, and SDK_APP_ID has {}; it should read APP:{what} with one of {}",
                        apps.len(),
                        listed(apps)
                    );
                    sorted.shared.push(entry);
                }
                Some((digits, value)) => {
                    let app = SdkAppId::parse(digits).ok().filter(|app| apps.contains(app));
                    let Some(app) = app else {
                        let shown = if secret { "the number before its colon" } else { digits };
                        bail!(
                            "{place}: {shown} is not an app of SDK_APP_ID; it should read APP:{what} with one of {}",
                            listed(apps)
                        );
                    };
                    ensure!(!value.is_empty(), "{place}: nothing follows the colon after {app}");
                    sorted.by_app.entry(app).or_default().push(value.to_owned());
                }
            }
        }
        Ok(sorted)
    }

    /// All values of an app: its own, else those for every app.
    pub(super) fn all_of(&self, app: SdkAppId) -> &[String] {
        self.by_app.get(&app).unwrap_or(&self.shared)
    }

    /// Makes the values that name no app those of this one, behind its own.
    pub(super) fn name_shared(&mut self, app: SdkAppId) {
        let shared = std::mem::take(&mut self.shared);
        self.by_app.entry(app).or_default().extend(shared);
    }

    /// The one value of an app.
    pub(super) fn of(&self, app: SdkAppId) -> Option<&str> {
        self.all_of(app).first().map(String::as_str)
    }

    /// Refuses two values where there can be one.
    ///
    /// # Errors
    /// Two for one app, or two for every app.
    pub(super) fn single(self, source: &str) -> anyhow::Result<Self> {
        ensure!(self.shared.len() <= 1, "{source} has {} values that name no app", self.shared.len());
        for (app, values) in &self.by_app {
            ensure!(values.len() == 1, "{source} has {} values of app {app}; it should be one", values.len());
        }
        Ok(self)
    }
}

/// The digits before the first colon, and what follows it; none where anything else stands there.
fn named_app(entry: &str) -> Option<(&str, &str)> {
    let (digits, value) = entry.split_once(':')?;
    let digits = digits.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((digits, value.trim()))
}

/// Apps for a line that a person reads.
pub(super) fn listed(apps: &[SdkAppId]) -> String {
    apps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{PerApp, ValueForm};
    use crate::model::SdkAppId;

    fn apps(ids: &[&str]) -> Vec<SdkAppId> {
        ids.iter().map(|id| SdkAppId::parse(id).unwrap()).collect()
    }

    fn parsed(secret: bool, shared: bool, values: &[&str], ids: &[&str]) -> Result<PerApp, String> {
        let form = ValueForm { source: "X", what: "VALUE", secret, shared };
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        PerApp::parse(form, values, &apps(ids)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_app_is_named_only_by_digits_before_the_first_colon() {
        for (text, of_1, of_2) in [
            ("https://a.example:8443/cb", "https://a.example:8443/cb", "https://a.example:8443/cb"),
            ("a:b:c", "a:b:c", "a:b:c"),
            (":x", ":x", ":x"),
            ("+1:x", "+1:x", "+1:x"),
            ("plain", "plain", "plain"),
        ] {
            let values = parsed(false, true, &[text], &["1", "2"]).unwrap();
            let of = |app: &str| values.of(SdkAppId::parse(app).unwrap()).unwrap().to_owned();
            assert_eq!((of("1"), of("2")), (of_1.to_owned(), of_2.to_owned()), "{text}");
        }
        let values = parsed(false, true, &["2 : https://b:1/", "https://a/"], &["1", "2", "3"]).unwrap();
        let of = |app: &str| values.of(SdkAppId::parse(app).unwrap());
        assert_eq!(
            [of("1"), of("2"), of("3")],
            [Some("https://a/"), Some("https://b:1/"), Some("https://a/")]
        );
        let values = parsed(false, true, &["2:x:y"], &["1", "2"]).unwrap();
        assert_eq!(values.of(SdkAppId::parse("1").unwrap()), None);
        assert_eq!(values.of(SdkAppId::parse("2").unwrap()), Some("x:y"));
    }

    #[test]
    fn an_app_that_is_not_configured_is_an_error_and_of_a_secret_only_the_number_of_the_entry_is_shown() {
        for (secret, values, wanted) in [
            (
                false,
                ["1:a", "3:b"],
                "X, entry 2: 3 is not an app of SDK_APP_ID; it should read APP:VALUE with one of 1, 2",
            ),
            (true, ["1:a", "3:b"], "X, entry 2: the number before its colon is not an app"),
            (true, ["1:a", "0:b"], "X, entry 2: the number before its colon is not an app"),
            (true, ["1:a", "99999999999999999999:b"], "X, entry 2: the number before its colon"),
            (true, ["1:a", "2:"], "X, entry 2: nothing follows the colon after 2"),
            (
                true,
                ["1:a", "hush"],
                "X, entry 2: it names no app, and SDK_APP_ID has 2; it should read APP:VALUE",
            ),
        ] {
            let error = parsed(secret, false, &values, &["1", "2"]).unwrap_err();
            assert!(error.starts_with(wanted) && !error.contains("hush"), "{error}");
        }
        assert!(
            parsed(true, false, &["12:secret"], &["1"]).is_err(),
            "a token that begins with digits and a colon"
        );
        assert_eq!(
            parsed(true, false, &["1:12:secret"], &["1"]).unwrap().all_of(apps(&["1"])[0]),
            ["12:secret"]
        );
    }

    #[test]
    fn where_there_can_be_one_value_two_are_an_error() {
        for (values, right) in
            [(["a", "b"], false), (["1:a", "1:b"], false), (["1:a", "2:b"], true), (["1:a", "b"], true)]
        {
            let sorted = parsed(false, true, &values, &["1", "2"]).unwrap();
            assert_eq!(sorted.single("X").is_ok(), right, "{values:?}");
        }
    }
}
