//! The languages of the console: message catalogues in the format of Fluent, one per language, and the choice among them.
//!
//! The files below `src/console/lang` are compiled in and read once. A message that a catalogue lacks is shown as its key
//! between `⟦` and `⟧`, in every language the same, so that a test that reads the pages finds it; another test compares the
//! catalogues with each other and with the code. Isolation marks around arguments are off: names and ids stand in `<bdi>`
//! elements, which isolate them in the page without characters that a reader would copy along.

use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use strum::VariantArray;
use unic_langid::LanguageIdentifier;

/// Stands around the key of a message that no catalogue has.
const MISSING: [char; 2] = ['⟦', '⟧'];

/// A language of the console. The first one is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub(crate) enum Language {
    English,
    Japanese,
    Chinese,
}

/// The sources of each language's catalogue, in the order of [`Language`].
const SOURCES: [&[&str]; 3] = [
    &[
        include_str!("lang/frame.en.ftl"),
        include_str!("lang/pages.en.ftl"),
        include_str!("lang/health.en.ftl"),
        include_str!("lang/events.en.ftl"),
        include_str!("lang/people.en.ftl"),
    ],
    &[
        include_str!("lang/frame.ja.ftl"),
        include_str!("lang/pages.ja.ftl"),
        include_str!("lang/health.ja.ftl"),
        include_str!("lang/events.ja.ftl"),
        include_str!("lang/people.ja.ftl"),
    ],
    &[
        include_str!("lang/frame.zh.ftl"),
        include_str!("lang/pages.zh.ftl"),
        include_str!("lang/health.zh.ftl"),
        include_str!("lang/events.zh.ftl"),
        include_str!("lang/people.zh.ftl"),
    ],
];

static CATALOGUES: LazyLock<[FluentBundle<FluentResource>; 3]> = LazyLock::new(|| {
    [catalogue(Language::English), catalogue(Language::Japanese), catalogue(Language::Chinese)]
});

fn catalogue(language: Language) -> FluentBundle<FluentResource> {
    let identifier: LanguageIdentifier = language.tag().parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![identifier]);
    bundle.set_use_isolating(false);
    for source in SOURCES[language as usize] {
        // What cannot be read is left out, and shown as missing; a test reads every file without an error.
        let resource = FluentResource::try_new((*source).to_owned()).unwrap_or_else(|(read, _)| read);
        bundle.add_resource_overriding(resource);
    }
    bundle
}

impl Language {
    /// The tag of the attribute `lang` and of the cookie.
    #[must_use]
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
            Self::Chinese => "zh",
        }
    }

    /// What its speakers call it.
    #[must_use]
    pub(crate) fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Japanese => "日本語",
            Self::Chinese => "中文",
        }
    }

    #[must_use]
    pub(crate) fn of_tag(code: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|language| language.tag() == code)
    }

    /// The best one for the header `Accept-Language`: the greatest weight, the earlier one where two are equal.
    #[must_use]
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
            let Some(language) = Self::of_tag(&primary) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let weight: f32 = weight.unwrap_or(0.0);
            if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    /// A message without arguments.
    #[must_use]
    pub(crate) fn text(self, key: &str) -> String {
        self.formatted(key, None)
    }

    /// A message with arguments: numbers choose the plural, texts are put in as they are and escaped by the page.
    #[must_use]
    pub(crate) fn text_with<const N: usize>(
        self,
        key: &str,
        args: [(&'static str, FluentValue<'_>); N],
    ) -> String {
        self.text_of(key, &args.into_iter().collect())
    }

    /// The same with arguments that were put together elsewhere.
    #[must_use]
    pub(crate) fn text_of(self, key: &str, args: &FluentArgs<'_>) -> String {
        self.formatted(key, Some(args))
    }

    /// The message of a key that is put together, where there is one.
    #[must_use]
    pub(crate) fn known_text(self, key: &str) -> Option<String> {
        CATALOGUES[self as usize].has_message(key).then(|| self.text(key))
    }

    fn formatted(self, key: &str, args: Option<&FluentArgs<'_>>) -> String {
        let bundle = &CATALOGUES[self as usize];
        let Some(pattern) = bundle.get_message(key).and_then(|message| message.value()) else {
            tracing::warn!(key, language = self.tag(), "the console has no such message");
            return format!("{}{key}{}", MISSING[0], MISSING[1]);
        };
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, args, &mut errors).into_owned();
        if errors.is_empty() { text } else { format!("{}{key}{}", MISSING[0], MISSING[1]) }
    }
}

/// A whole number with its thousands apart, as the languages here all write it.
#[must_use]
pub(crate) fn grouped(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keys of the messages in one catalogue's sources.
    fn keys(language: Language) -> BTreeSet<String> {
        let lines = SOURCES[language as usize].iter().flat_map(|source| source.lines());
        let keys = lines.filter_map(|line| line.split_once(" ="));
        let is_key = |key: &&str| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        keys.map(|(key, _)| key).filter(is_key).map(str::to_owned).collect()
    }

    #[test]
    fn every_catalogue_can_be_read_and_has_each_key_once() {
        for language in Language::VARIANTS {
            let mut seen = BTreeSet::new();
            for source in SOURCES[*language as usize] {
                let resource = FluentResource::try_new((*source).to_owned());
                assert!(resource.is_ok(), "{language:?}: {:?}", resource.err().map(|(_, errors)| errors));
                for line in source.lines().filter(|line| !line.starts_with([' ', '#', '}'])) {
                    let Some((key, _)) = line.split_once(" =") else { continue };
                    assert!(seen.insert(key.to_owned()), "{language:?}: {key} comes twice");
                }
            }
        }
    }

    #[test]
    fn every_language_has_the_same_keys_with_the_same_arguments() {
        let english = keys(Language::English);
        assert!(english.len() > 50, "keys are found");
        for language in Language::VARIANTS {
            assert_eq!(keys(*language), english, "{language:?}");
        }
    }

    #[test]
    fn the_accepted_language_has_the_greatest_weight() {
        for (header, wanted) in [
            ("ja", Some(Language::Japanese)),
            ("de, fr;q=0.9", None),
            ("de, zh-CN;q=0.8, en;q=0.7", Some(Language::Chinese)),
            ("en;q=0.5, ja;q=0.9", Some(Language::Japanese)),
            ("ja;q=0, en", Some(Language::English)),
            ("JA-jp", Some(Language::Japanese)),
            (";q=x,,", None),
        ] {
            assert_eq!(Language::accepted(header), wanted, "{header}");
        }
    }

    #[test]
    fn plurals_follow_the_language_and_a_missing_message_shows_its_key() {
        let text = |language: Language, count: i64| {
            language.text_with("ago-seconds", [("count", count.into())])
                + &language.text_with("trust-gaps-open", [("count", count.into())])
        };
        assert_ne!(text(Language::English, 1), text(Language::English, 2).replace('2', "1"));
        assert_eq!(text(Language::Japanese, 1), text(Language::Japanese, 2).replace('2', "1"));
        assert_eq!(Language::English.text("no-such-key"), "⟦no-such-key⟧");
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-12_345_678, "-12,345,678")] {
            assert_eq!(grouped(number), shown);
        }
    }
}
