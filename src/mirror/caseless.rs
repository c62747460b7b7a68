//! The caseless form of a text: two texts that differ in case alone have the same one.
//!
//! It is made here and not by the database, because what PostgreSQL makes of a letter depends on the locale that the server
//! was set up with: in locale C it knows the cases of ASCII alone, in a Turkish one `I` and `i` differ in more than case.
//! A name is stored with this form beside it, and what is searched for is brought into it, so a search finds the same on
//! every server. Each character is taken by itself, so the form of a part of a text is a part of the form of the text.

use std::borrow::Cow;

/// Lower case of upper case of lower case, which unites all forms of a letter that Unicode's case folding unites (`ς` and
/// `Σ`, `ß` and `ẞ` and `SS`, `ſ` and `S`), and the Turkish dotless `ı` with `i`. Nothing else is changed: no accent is
/// dropped, and composed and decomposed letters stay different.
#[must_use]
pub fn caseless(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    let lower = text.chars().flat_map(char::to_lowercase);
    Cow::Owned(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_differ_in_case_alone_have_one_form() {
        for alike in [
            &["river WALKERS", "River Walkers"][..],
            &["ПРОГУЛКА", "прогулка", "Прогулка"],
            &["ΣΑΣ", "σας", "σασ"],
            &["STRASSE", "Straße", "STRAẞE"],
            &["ＡＢＣ", "ａｂｃ"],
            &["ÉCOLE", "école"],
            &["E\u{301}", "e\u{301}"],
            &["ISPARTA", "ısparta", "isparta"],
            &["İ", "i\u{307}"],
            &["ﬁn", "FIN"],
        ] {
            for text in alike {
                assert_eq!(caseless(text), caseless(alike[0]), "{text}");
            }
        }
        for other in ["e", "群聊", "e\u{301}", "\u{FFFD}"] {
            assert_ne!(caseless("é"), caseless(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn the_form_of_a_part_is_a_part_of_the_form(before in ".*", part in ".*", after in ".*") {
            let whole = format!("{before}{part}{after}");
            prop_assert!(caseless(&whole).contains(&*caseless(&part)));
        }

        #[test]
        fn the_form_of_a_form_is_itself_and_that_of_either_case(text in ".*") {
            let form = caseless(&text).into_owned();
            prop_assert_eq!(&caseless(&form), &form);
            let (upper, lower) = (text.to_uppercase(), text.to_lowercase());
            prop_assert_eq!(&caseless(&upper), &form);
            prop_assert_eq!(&caseless(&lower), &form);
        }
    }
}
