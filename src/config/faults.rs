//! All that is wrong with the settings at once, for `check`: `serve` ends with the first fault.
//!
//! Found by elimination: the settings are checked as `serve` checks them, what the error names is replaced by a value that
//! is right, and they are checked again. So nothing is checked in a second way that could differ from the first. An error
//! that names a setting which was replaced before may be a consequence of that and is left out.

use super::apps::EMBEDDED_APP_ID;
use super::missing::MissingSettings;
use super::settings::Settings;
use super::{Config, ServeConfig};
use crate::telemetry::log_filter;

/// A setting that is wrong or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFault {
    /// Its variable, where that is known.
    pub name: Option<&'static str>,
    /// What is wrong and what would be right; never a secret.
    pub line: String,
}

/// What the settings come to, as far as they are right.
#[derive(Debug)]
pub struct CheckedSettings {
    /// With stand-ins for what is wrong; none where even these do not fit together.
    pub serving: Option<ServeConfig>,
    /// What every command needs.
    pub config: Config,
    /// What is wrong, in the order in which it was found.
    pub faults: Vec<SettingFault>,
    /// The variables that have a stand-in.
    pub replaced: Vec<&'static str>,
}

/// What stands in for a token.
const STAND_IN_TOKEN: &str = "stand-in-for-a-token-that-is-missing";

impl Settings {
    /// Checks all settings.
    #[must_use]
    pub fn check_all(&self) -> CheckedSettings {
        let mut left = self.clone();
        let names: Vec<&'static str> = left.by_name().into_iter().map(|(name, _)| name).collect();
        let (mut faults, mut replaced) = (Vec::new(), Vec::new());
        if let Err(error) = self.logging().and_then(|(_, filter)| log_filter(filter)) {
            faults.push(fault(&names, format!("{error:#}")));
        }
        if let Err(error) = self.ledger_keep_days() {
            faults.push(fault(&names, format!("{error:#}")));
        }
        let serving = loop {
            let error = match left.serve_config() {
                Ok(serving) => break Some(serving),
                Err(error) => error,
            };
            let lines: Vec<String> = match error.downcast_ref::<MissingSettings>() {
                Some(missing) => missing.0.iter().map(|line| (*line).to_owned()).collect(),
                None => vec![format!("{error:#}")],
            };
            let before = replaced.len();
            for line in lines {
                let named = named_in(&names, &line);
                let first = named.first().copied().filter(|first| !replaced.contains(first));
                if !named.iter().any(|name| replaced.contains(name)) {
                    faults.push(fault(&names, line.clone()));
                }
                let next = first.or_else(|| named.iter().copied().find(|name| !replaced.contains(name)));
                if let Some(name) = next {
                    left.stand_in(name);
                    replaced.push(name);
                }
            }
            // A fault that names nothing more to replace: no more is known.
            if replaced.len() == before {
                break None;
            }
        };
        assert!(replaced.len() <= names.len(), "each setting is replaced once");
        CheckedSettings { serving, config: self.config(), faults, replaced }
    }

    /// Replaces one setting by its default, or by a value that is right; a secret with the file of it.
    fn stand_in(&mut self, name: &'static str) {
        let secret = name.strip_suffix("_FILE").unwrap_or(name);
        for (known, value) in self.by_name() {
            if known == secret || known.strip_suffix("_FILE") == Some(secret) {
                *value = None;
            }
        }
        match secret {
            "SDK_APP_ID" => self.sdk_app_id = Some(EMBEDDED_APP_ID.to_owned()),
            "API_TOKEN" => self.api_token = Some(STAND_IN_TOKEN.to_owned()),
            // One that fits whatever apps there are.
            "CALLBACK_TOKEN" => self.callback_auth = Some("none".to_owned()),
            _ => {}
        }
    }
}

fn fault(names: &[&'static str], line: String) -> SettingFault {
    let name = named_in(names, &line).first().copied().filter(|name| line.starts_with(name));
    SettingFault { name, line }
}

/// The variables that a line names as whole words, in its order.
fn named_in(names: &[&'static str], line: &str) -> Vec<&'static str> {
    let words = line.split(|mark: char| !(mark.is_ascii_uppercase() || mark.is_ascii_digit() || mark == '_'));
    words.filter_map(|word| names.iter().copied().find(|name| *name == word)).collect()
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[expect(clippy::unnecessary_wraps, reason = "the value of a setting")]
    fn set(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn names(settings: &Settings) -> (Vec<&'static str>, bool) {
        let checked = settings.check_all();
        let names = checked.faults.iter().map(|fault| fault.name.unwrap_or_else(|| panic!("{fault:?}")));
        (names.collect(), checked.serving.is_some())
    }

    #[test]
    fn every_fault_is_found_once_and_what_follows_from_another_is_none() {
        let production = Settings { database_url: set("postgres://db/mirror"), ..Settings::default() };
        assert_eq!(names(&Settings::default()), (vec![], true));
        assert_eq!(names(&production), (vec!["SDK_APP_ID", "CALLBACK_TOKEN", "API_TOKEN"], true));
        // Entries of apps that are not known follow from the app ids.
        let apps = Settings {
            sdk_app_id: set("1400000001,none"),
            callback_token: set("1400000001:a,1400000002:b"),
            tencent_api_url: set("1400000002:https://console.tim.qq.com"),
            api_token: set("desk@1400000002:hush"),
            idle_secs: set("-1"),
            ..production.clone()
        };
        let (found, fits) = names(&apps);
        assert_eq!((found, fits), (vec!["SDK_APP_ID", "IDLE_SECS"], true));
        let tokens = Settings {
            sdk_app_id: set("1400000001,1400000002"),
            callback_token: set("1400000001:a"),
            api_token: set("hush hush"),
            reconcile: set("perhaps"),
            rust_log: set("a=b=c"),
            relay_timeout_ms: set("9000"),
            tencent_secret_key: set("1400000001:hush"),
            ..production.clone()
        };
        let (mut found, fits) = names(&tokens);
        found.sort_unstable();
        assert_eq!(
            (found, fits),
            (
                vec![
                    "API_TOKEN",
                    "CALLBACK_TOKEN",
                    "RECONCILE",
                    "RELAY_TIMEOUT_MS",
                    "RUST_LOG",
                    "TENCENT_API_URL"
                ],
                true
            )
        );
        let lines: String = tokens.check_all().faults.into_iter().map(|fault| fault.line).collect();
        assert!(!lines.contains("hush"), "{lines}");
        let both = Settings {
            callback_token: set("a"),
            callback_token_file: set("/none"),
            sdk_app_id: set("1"),
            api_token: set("desk:0123456789abcdef"),
            ..production
        };
        assert_eq!(names(&both), (vec!["CALLBACK_TOKEN"], true));
    }

    #[test]
    fn a_listener_that_others_reach_without_tokens_is_the_one_fault() {
        let open = Settings { api_listen: set("0.0.0.0:8081"), api_auth: set("none"), ..Settings::default() };
        let (found, fits) = names(&open);
        assert_eq!((found, fits), (vec!["API_LISTEN"], true));
    }
}
