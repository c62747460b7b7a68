//! The words of the console: every message of the catalogues is used, and every one that the code names is in each of them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::house::sources::sources;

/// Messages whose key is put together: by cause, or by subject of a card.
const PUT_TOGETHER: [&str; 4] = ["refusal-", "remedy-", "cause-", "card-"];

/// The sources of the catalogues of a language.
fn catalogue(language: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/lang");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.to_string_lossy().ends_with(&format!(".{language}.ftl"))).collect();
    files.sort();
    assert!(files.len() >= 3, "the catalogues are found");
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn keys(language: &str) -> BTreeSet<String> {
    let text = catalogue(language);
    let lines = text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    lines.filter_map(|line| line.split_once(" =")).map(|(key, _)| key.to_owned()).collect()
}

/// Texts between double quotes in the sources of the console that could be keys.
fn named() -> BTreeSet<String> {
    let is_key = |text: &&str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let console = sources("src").into_iter().filter(|source| source.path.starts_with("console/"));
    console
        .flat_map(|source| source.text.split('"').filter(is_key).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_message_is_used_and_stands_in_every_language() {
    let (english, named) = (keys("en"), named());
    assert!(english.len() > 200, "{} keys", english.len());
    for language in ["ja", "zh"] {
        assert_eq!(keys(language), english, "{language}");
    }
    let is_used = |key: &str| {
        let stem = key.strip_suffix("-here").unwrap_or(key);
        named.contains(key) || named.contains(stem) || PUT_TOGETHER.iter().any(|begin| key.starts_with(begin))
    };
    let unused: Vec<_> = english.iter().filter(|key| !is_used(key)).collect();
    assert!(unused.is_empty(), "no page has these words: {unused:?}");
}

#[test]
fn every_message_that_the_code_asks_for_is_in_the_catalogue() {
    let english = keys("en");
    let mut asked = 0;
    for source in sources("src").into_iter().filter(|source| source.path.starts_with("console/")) {
        // What stands in the tests of a file may be missing on purpose.
        let code = source.text.split("#[cfg(test)]").next().unwrap().to_owned();
        for call in [".text(\"", ".text_with(\"", ".text_of(\""] {
            for key in code.split(call).skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(english.contains(key), "{}: {key}", source.path);
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "calls are found");
}

#[test]
fn no_language_has_the_words_of_another() {
    let [english, japanese, chinese] = ["en", "ja", "zh"].map(catalogue);
    let message = |text: &str, key: &str| {
        text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).map(str::to_owned)
    };
    let same: Vec<_> = keys("en")
        .into_iter()
        .filter(|key| {
            let words = message(&english, key);
            // A word of Tencent or of the field may be the same everywhere; a sentence may not.
            let is_sentence =
                words.as_ref().is_some_and(|words| words.contains(' ') && !words.starts_with('{'));
            is_sentence && (message(&japanese, key) == words || message(&chinese, key) == words)
        })
        .collect();
    assert!(same.is_empty(), "not translated: {same:?}");
}
