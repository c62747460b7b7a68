//! What a reader has chosen: language, time zone, colours, and whether single keys are shortcuts.
//!
//! Four cookies hold it, so that it is the same on every page and without script. They say nothing about who reads, and a
//! value that is no choice of ours counts as none. The first visit has the language that the browser asks for.

use axum::http::{HeaderMap, HeaderValue, header};
use strum::VariantArray;

use super::language::Language;
use super::zone::Zone;

/// How long a choice is kept, in seconds: a year.
const KEPT_SECS: u32 = 31_536_000;

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub(crate) enum Theme {
    /// As the system of the reader has it.
    Auto,
    Light,
    Dark,
}

impl Theme {
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    #[must_use]
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|theme| theme.word() == word)
    }

    /// The one that the key `t` leads to.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Auto => Self::Dark,
            Self::Dark => Self::Light,
            Self::Light => Self::Auto,
        }
    }
}

/// The choices of one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preferences {
    pub(crate) language: Language,
    pub(crate) zone: Zone,
    pub(crate) theme: Theme,
    /// Single keys are shortcuts. A reader who speaks to the machine may switch them off.
    pub(crate) keys: bool,
}

impl Preferences {
    /// Those of a request.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let language = cookie(headers, "lang").and_then(Language::of_tag);
        let zone = cookie(headers, "tz").and_then(|name| Zone::of_name(&name.replace("%2F", "/")));
        Self {
            language: language.or_else(|| Language::accepted(accepted?)).unwrap_or(Language::English),
            zone: zone.unwrap_or(Zone::UTC),
            theme: cookie(headers, "theme").and_then(Theme::of_word).unwrap_or(Theme::Auto),
            keys: cookie(headers, "keys") != Some("off"),
        }
    }

    /// The same with what a form says; what it does not say, or says in no word of ours, stays.
    #[must_use]
    pub(crate) fn with_form(self, body: &[u8]) -> Self {
        let mut chosen = self;
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "lang" => chosen.language = Language::of_tag(&value).unwrap_or(chosen.language),
                "tz" => chosen.zone = Zone::of_name(&value).unwrap_or(chosen.zone),
                "theme" => chosen.theme = Theme::of_word(&value).unwrap_or(chosen.theme),
                "keys" => chosen.keys = &*value != "off",
                _ => {}
            }
        }
        chosen
    }

    /// The cookies that keep it, for pages below a path.
    #[must_use]
    pub(crate) fn cookies(self, path: &str) -> Vec<HeaderValue> {
        let keys = if self.keys { "on" } else { "off" };
        let pairs = [
            ("lang", self.language.tag()),
            ("tz", self.zone.name()),
            ("theme", self.theme.word()),
            ("keys", keys),
        ];
        let text = |(name, value): (&str, &str)| {
            format!("{name}={value}; Path={path}; Max-Age={KEPT_SECS}; SameSite=Lax; HttpOnly")
        };
        pairs.into_iter().map(text).filter_map(|text| HeaderValue::from_str(&text).ok()).collect()
    }
}

/// The value of a cookie; the first one where it comes twice.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_cookie_counts_before_the_browsers_language_and_nonsense_as_nothing() {
        let first = Preferences::of(&headers(&[(header::ACCEPT_LANGUAGE, "zh-TW,zh;q=0.9")]));
        assert_eq!((first.language, first.zone), (Language::Chinese, Zone::UTC));
        let cookies = "lang=ja; tz=Asia/Tokyo; theme=dark; keys=off";
        let kept = Preferences::of(&headers(&[(header::COOKIE, cookies), (header::ACCEPT_LANGUAGE, "zh")]));
        let tokyo = Zone::of_name("Asia/Tokyo").unwrap();
        let wanted =
            Preferences { language: Language::Japanese, zone: tokyo, theme: Theme::Dark, keys: false };
        assert_eq!(kept, wanted);
        let nonsense = "lang=xx; tz=../../etc; theme=<script>; keys";
        let none = Preferences::of(&headers(&[(header::COOKIE, nonsense)]));
        assert_eq!(none, Preferences::of(&HeaderMap::new()));
    }

    #[test]
    fn what_a_form_says_is_kept_in_cookies_and_read_again() {
        let chosen = Preferences::of(&HeaderMap::new())
            .with_form(b"lang=zh&tz=Asia%2FShanghai&theme=light&x=1&keys=off");
        let mut sent = HeaderMap::new();
        for line in chosen.cookies("/") {
            let pair = line.to_str().unwrap().split(';').next().unwrap().to_owned();
            sent.append(header::COOKIE, HeaderValue::from_str(&pair).unwrap());
        }
        assert_eq!(Preferences::of(&sent), chosen);
        assert_eq!(chosen.with_form(b"lang=xx&tz=nowhere"), chosen);
    }

    #[test]
    fn the_key_for_colours_goes_through_all_of_them() {
        let mut theme = Theme::Auto;
        for _ in Theme::VARIANTS {
            theme = theme.next();
        }
        assert_eq!(theme, Theme::Auto);
    }
}
