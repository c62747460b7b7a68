//! The form in which a list is answered: a page of JSON, or the whole list as CSV or NDJSON.
//!
//! A program says it in `Accept` (RFC 9110, content negotiation: the highest `q` wins, then the more precise range, then the
//! order of the header). A link in a page cannot set a header, so `format=` says it there and wins. A header that allows none
//! of the three gets JSON, as one that names none does: what else would tell the client what is wrong.

use axum::http::{HeaderMap, header};

/// How a list is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListForm {
    /// A page.
    Json,
    /// The whole list, RFC 4180. With a byte order mark for a link: a person opens it in a spreadsheet, and Excel takes a
    /// file without one for the code page of the machine.
    Csv { mark: bool },
    /// The whole list, a line of JSON for each item.
    Ndjson,
}

/// The values of `format`.
pub(super) const FORMATS: [(&str, ListForm); 3] =
    [("json", ListForm::Json), ("csv", ListForm::Csv { mark: true }), ("ndjson", ListForm::Ndjson)];

/// What is offered, the preferred one first, with its type and subtype.
const OFFERED: [(&str, &str, ListForm); 3] = [
    ("application", "json", ListForm::Json),
    ("text", "csv", ListForm::Csv { mark: false }),
    ("application", "x-ndjson", ListForm::Ndjson),
];

/// How well a form is accepted: `q` in thousandths, how precise the range is, and minus its place in the header.
type Wish = (u16, u8, i64);

impl ListForm {
    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv { .. } => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The end of the name of a file.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv { .. } => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The one that `Accept` prefers.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let ranges: Vec<MediaRange<'_>> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .enumerate()
            .filter_map(|(place, text)| MediaRange::parse(text, place))
            .collect();
        let wish = |kind: &str, subtype: &str| -> Option<Wish> {
            // The most precise range that matches decides, also where its q is lower.
            let matching = ranges.iter().filter_map(|range| Some((range.precision(kind, subtype)?, range)));
            let (precision, range) = matching.max_by_key(|(precision, range)| (*precision, -range.place))?;
            (range.quality > 0).then_some((range.quality, precision, -range.place))
        };
        let mut best: Option<(Wish, Self)> = None;
        for (kind, subtype, form) in OFFERED {
            if let Some(wish) = wish(kind, subtype)
                && best.is_none_or(|(best, _)| wish > best)
            {
                best = Some((wish, form));
            }
        }
        best.map_or(Self::Json, |(_, form)| form)
    }
}

/// A media range of `Accept`.
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: u16,
    place: i64,
}

impl<'a> MediaRange<'a> {
    fn parse(text: &'a str, place: usize) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(Some(1000), thousandths)?;
        Some(Self { kind, subtype, quality, place: i64::try_from(place).ok()? })
    }

    /// How precisely it names a type, if it does.
    fn precision(&self, kind: &str, subtype: &str) -> Option<u8> {
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (named, "*") if named.eq_ignore_ascii_case(kind) => Some(1),
            (named, sub) if named.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// A `q` such as `0.25`, in thousandths; `None` for what is none.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_short = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = format!("{decimals:0<3}").parse::<u16>().ok().filter(|_| is_short)?;
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::ListForm;

    #[test]
    fn accept_decides_by_q_then_precision_then_order_and_json_is_the_rest() {
        let csv = ListForm::Csv { mark: false };
        for (text, form) in [
            ("", ListForm::Json),
            ("*/*", ListForm::Json),
            ("text/csv", csv),
            ("TEXT/CSV; charset=utf-8", csv),
            ("text/*", csv),
            ("application/x-ndjson", ListForm::Ndjson),
            ("application/*", ListForm::Json),
            ("text/csv, */*", csv),
            ("*/*, text/csv", csv),
            ("text/csv;q=0.5, application/json", ListForm::Json),
            ("text/csv;q=0.5, application/json;q=0.4", csv),
            ("text/csv;q=0.501, application/x-ndjson;q=0.5", csv),
            ("text/csv, application/json", csv),
            ("application/json, text/csv", ListForm::Json),
            ("text/csv;q=0, */*;q=0.1", ListForm::Json),
            ("text/csv;q=0", ListForm::Json),
            ("application/json;q=0, */*", csv),
            ("text/csv;q=1.5, application/x-ndjson;q=0.1", ListForm::Ndjson),
            ("text/csv;q=x", ListForm::Json),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ListForm::Json),
            ("application/xml", ListForm::Json),
            ("csv, ;, /", ListForm::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(text));
            assert_eq!(ListForm::accepted(&headers), form, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, HeaderValue::from_static("application/json;q=0.1"));
        headers.append(header::ACCEPT, HeaderValue::from_static("text/csv"));
        assert_eq!(ListForm::accepted(&headers), csv, "several headers are one list");
    }
}
