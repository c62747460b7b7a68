//! The words of the house: the glossary's and the field's terms, so that a maintainer who searches for what he knows
//! finds it, and none of the words that they replace.

use std::path::Path;

use super::sources::sources;

/// Words in comments and names that the terms of the field replace.
const REPLACED: [(&str, &str); 16] = [
    ("told", "says, names, reports; or the thing itself: lines, outcome"),
    ("made out", "read, decoded, folded from"),
    ("met", "conflicted; serialization failure"),
    ("somebody", "who it is: a caller, a transaction, a follower"),
    ("nobody", "who it is, or the passive voice"),
    ("whoever", "who it is"),
    ("goes away", "ends, closes, stops answering"),
    ("gone away", "has ended, does not answer"),
    ("way back", "return, closing of the breaker"),
    ("scribe", "spool thread"),
    ("shelf", "spool file"),
    ("halving", "bisect"),
    ("carried", "bundled"),
    ("finder", "lookup"),
    ("for ever", "without end, permanently"),
    ("passed over", "skipped"),
];

/// Terms of the field, each of which stands where the thing is.
const TERMS: [&str; 12] = [
    "circuit breaker",
    "exponential back-off",
    "bisect",
    "last-writer-wins",
    "dead letter",
    "keyset",
    "high watermark",
    "group commit",
    "serialization failure",
    "as of",
    "lookup",
    "bundled",
];

/// The words of a text in lower case with the numbers of their lines; `snake_case`, `CamelCase` and hyphens separate.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut before = ' ';
        for character in line.chars().chain([' ']) {
            let begins = !character.is_alphanumeric() || (before.is_lowercase() && character.is_uppercase());
            if begins && !word.is_empty() {
                words.push((number + 1, std::mem::take(&mut word)));
            }
            if character.is_alphanumeric() {
                word.extend(character.to_lowercase());
            }
            before = character;
        }
    }
    words
}

/// The line of the first occurrence of a phrase, line breaks inside it included.
fn find(words: &[(usize, String)], phrase: &str) -> Option<usize> {
    let phrase: Vec<String> = self::words(phrase).into_iter().map(|(_, word)| word).collect();
    let at = words.windows(phrase.len()).find(|window| window.iter().map(|(_, word)| word).eq(&phrase));
    at.map(|window| window[0].0)
}

/// Sources and migrations, by path.
fn texts() -> Vec<(String, String)> {
    let mut texts: Vec<_> =
        sources("src").into_iter().map(|source| (format!("src/{}", source.path), source.text)).collect();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for entry in std::fs::read_dir(migrations).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().display().to_string();
        texts.push((format!("migrations/{name}"), std::fs::read_to_string(&path).unwrap()));
    }
    texts.sort();
    assert!(texts.len() > 90, "the sources are there");
    texts
}

#[test]
fn comments_and_names_use_the_words_of_the_glossary() {
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        // An account of the system bears this name.
        let text = text.replace("`nobody`", "").replace("\"nobody\"", "");
        let words = words(&format!("{text}\n{path}"));
        for (word, instead) in REPLACED {
            if let Some(line) = find(&words, word) {
                wrong.push(format!("{path}:{line}: {word:?}; say: {instead}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_terms_of_the_field_are_found_in_the_sources() {
    let joined = |text: &str| words(text).into_iter().map(|(_, word)| format!(" {word}")).collect::<String>();
    let all: String = texts().iter().map(|(_, text)| joined(text)).collect();
    for term in TERMS {
        // An ending may follow: bisects, lookups.
        assert!(all.contains(&joined(term)), "{term:?} stands nowhere");
    }
}

#[test]
fn phrases_are_found_over_line_breaks_and_inside_names_and_not_inside_other_words() {
    let said =
        words("/// what is made\n/// out\nfn told_max() -> ToldMax; // describe the metrics for every one");
    for (phrase, line) in [("made out", Some(1)), ("told", Some(3)), ("scribe", None), ("met", None)] {
        assert_eq!(find(&said, phrase), line, "{phrase}");
    }
    assert_eq!(find(&said, "for ever"), None);
    assert_eq!(find(&words("the last-writer-wins rule"), "last writer wins"), Some(1));
}
