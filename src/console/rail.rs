//! The time rail: the number of members over the life of a group as a line, and its events as marks that lead to their
//! moments. SVG without script and without styles of its own.
//!
//! The life of the group is cut into spans of equal length, and a span with events has one mark, whose shape and colour are
//! those of the gravest event in it. The same spans are drawn three times, merged by two and by four, and the style sheet
//! shows the drawing whose marks are 24 CSS pixels apart in the width that there is. All positions are percentages, so that
//! shapes keep their form at every width. Pure.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::deed::Deed;

/// How many spans the widest drawing has: of 24 pixels each, they fit into a page of 64 rem.
pub(super) const RAIL_SPANS: usize = 40;

/// How many spans are drawn as one, and the class of that drawing.
const DRAWINGS: [(usize, &str); 3] = [(1, "rail-wide"), (2, "rail-medium"), (4, "rail-narrow")];

/// The height of the line, and where the marks stand below it, in pixels.
const LINE_HEIGHT: u32 = 64;
const MARKS_AT: u32 = LINE_HEIGHT + 16;
const HEIGHT: u32 = LINE_HEIGHT + 32;

/// The coordinates across the line; it is stretched to the width of the page.
const ACROSS: usize = 1_000;

/// A part of the life of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RailSpan {
    /// Unix milliseconds, later than the first one and not later than the last one.
    pub(super) begin_ms: i64,
    pub(super) end_ms: i64,
    /// The members at its end; `None` where that is not known.
    pub(super) members: Option<u64>,
    /// How many events of which kind are in it.
    pub(super) deeds: BTreeMap<Deed, u64>,
    /// The moment of its newest event, where that is known.
    pub(super) newest_ms: Option<i64>,
}

impl RailSpan {
    /// All events in it.
    pub(super) fn events(&self) -> u64 {
        self.deeds.values().sum()
    }

    /// The gravest kind in it.
    fn gravest(&self) -> Option<Deed> {
        self.deeds.iter().filter(|(_, count)| **count > 0).map(|(deed, _)| *deed).max()
    }

    /// The moment that its mark leads to: that of its newest event, else its end, at which the same holds.
    pub(super) fn moment_ms(&self) -> i64 {
        self.newest_ms.unwrap_or(self.end_ms)
    }
}

/// What a drawing needs beside the spans.
pub(super) struct RailLinks<'a> {
    /// The address of the group at a moment, in Unix milliseconds.
    pub(super) address: &'a dyn Fn(i64) -> String,
    /// What a mark is about, in words.
    pub(super) title: &'a dyn Fn(&RailSpan) -> String,
    /// The moment that the page shows; `None`: the present.
    pub(super) at_ms: Option<i64>,
}

/// Draws the spans; nothing where there are none.
pub(super) fn rail(spans: &[RailSpan], links: &RailLinks<'_>) -> Markup {
    assert!(spans.len() <= RAIL_SPANS, "a rail has a limited number of spans");
    html! {
        @if !spans.is_empty() {
            @for (by, class) in DRAWINGS {
                (drawing(&merged(spans, by), class, links))
            }
        }
    }
}

/// Each few spans as one.
fn merged(spans: &[RailSpan], by: usize) -> Vec<RailSpan> {
    let merge = |few: &[RailSpan]| {
        let (first, last) = (&few[0], &few[few.len() - 1]);
        let mut deeds = BTreeMap::new();
        for (deed, count) in few.iter().flat_map(|span| &span.deeds) {
            *deeds.entry(*deed).or_default() += count;
        }
        let newest = few.iter().rev().find(|span| span.events() > 0);
        RailSpan {
            begin_ms: first.begin_ms,
            end_ms: last.end_ms,
            members: last.members,
            deeds,
            newest_ms: newest.map(RailSpan::moment_ms),
        }
    };
    spans.chunks(by).map(merge).collect()
}

fn drawing(spans: &[RailSpan], class: &str, links: &RailLinks<'_>) -> Markup {
    html! {
        svg class={ "rail " (class) } width="100%" height=(HEIGHT) {
            svg viewBox={ "0 0 " (ACROSS) " " (LINE_HEIGHT) } preserveAspectRatio="none" width="100%"
                height=(LINE_HEIGHT) aria-hidden="true" {
                @for points in lines(spans) {
                    polyline class="rail-line" fill="none" vector-effect="non-scaling-stroke" points=(points) {}
                }
            }
            @if let Some(place) = links.at_ms.and_then(|at| place(spans, at)) {
                line class="rail-at" x1=(place) x2=(place) y1="0" y2=(HEIGHT) aria-hidden="true" {}
            }
            @for (index, span) in spans.iter().enumerate() {
                @if let Some(deed) = span.gravest() {
                    (mark(&percent(2 * index + 1, 2 * spans.len()), deed, span, links))
                }
            }
        }
    }
}

fn mark(place: &str, deed: Deed, span: &RailSpan, links: &RailLinks<'_>) -> Markup {
    let title = (links.title)(span);
    html! {
        svg x=(place) y=(MARKS_AT) width="1" height="1" overflow="visible" {
            a class={ "rail-mark rail-" (deed.label()) } href=((links.address)(span.moment_ms())) aria-label=(title) {
                title { (title) }
                rect class="rail-target" x="-12" y="-12" width="24" height="24" fill="transparent" {}
                path d=(shape(deed)) {}
            }
        }
    }
}

/// A removal points down, a dismissal is a cross, what was not understood a square, a leave is hollow by style; the rest are
/// discs.
fn shape(deed: Deed) -> &'static str {
    match deed {
        Deed::Removal => "M-8-6H8L0 8Z",
        Deed::Destroy => "M-7-5-5-7 0-2 5-7 7-5 2 0 7 5 5 7 0 2-5 7-7 5-2 0Z",
        Deed::Unread => "M-6-6H6V6H-6Z",
        _ => "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1-5 0Z",
    }
}

/// The parts of the line between which the number is not known.
fn lines(spans: &[RailSpan]) -> Vec<String> {
    let most = spans.iter().filter_map(|span| span.members).max().unwrap_or(0).max(1);
    let height = u64::from(LINE_HEIGHT - 4);
    let y = |members: u64| 2 + height - members.saturating_mul(height) / most;
    let mut lines = Vec::new();
    let mut points: Vec<String> = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let Some(members) = span.members else {
            lines.push(std::mem::take(&mut points));
            continue;
        };
        // A step: what holds at the end of a span is drawn over the whole of it.
        let edges = [index, index + 1];
        points.extend(edges.map(|edge| format!("{},{}", edge * ACROSS / spans.len(), y(members))));
    }
    lines.push(points);
    lines.into_iter().filter(|points| !points.is_empty()).map(|points| points.join(" ")).collect()
}

/// Where a moment stands across the rail; `None` outside of it.
fn place(spans: &[RailSpan], at_ms: i64) -> Option<String> {
    let (begin, end) = (spans.first()?.begin_ms, spans.last()?.end_ms);
    let (passed, whole) = (at_ms.checked_sub(begin)?, end.checked_sub(begin)?);
    let (passed, whole) = (usize::try_from(passed).ok()?, usize::try_from(whole).ok()?);
    (whole > 0 && passed <= whole).then(|| percent(passed, whole))
}

/// A part of a whole with two decimals, without a detour over floating point.
fn percent(part: usize, whole: usize) -> String {
    let hundredths = part.saturating_mul(10_000) / whole.max(1);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(index: i64, members: Option<u64>, deeds: &[(Deed, u64)]) -> RailSpan {
        let deeds: BTreeMap<_, _> = deeds.iter().copied().collect();
        RailSpan { begin_ms: index * 100, end_ms: (index + 1) * 100, members, deeds, newest_ms: None }
    }

    fn drawn(spans: &[RailSpan], at_ms: Option<i64>) -> String {
        let address = |moment: i64| format!("?at={moment}&x=<");
        let title = |span: &RailSpan| format!("{} <events>", span.events());
        rail(spans, &RailLinks { address: &address, title: &title, at_ms }).into_string()
    }

    #[test]
    fn a_span_with_events_has_one_mark_of_the_gravest_kind_that_leads_to_its_moment() {
        let spans = [
            span(0, Some(3), &[(Deed::Create, 1)]),
            span(1, Some(3), &[]),
            RailSpan { newest_ms: Some(250), ..span(2, Some(1), &[(Deed::Join, 4), (Deed::Removal, 6)]) },
        ];
        let shown = drawn(&spans, None);
        let wide = shown.split("rail-medium").next().unwrap();
        assert_eq!(wide.matches("<a ").count(), 2, "{wide}");
        assert!(wide.contains(r#"rail-mark rail-create" href="?at=100&amp;x=&lt;""#), "{wide}");
        assert!(
            wide.contains(
                r#"rail-mark rail-removal" href="?at=250&amp;x=&lt;" aria-label="10 &lt;events&gt;""#
            )
        );
        assert!(!shown.contains("<events>"), "titles are escaped");
        assert!(!shown.contains(" style="), "the policy of the page allows no styles in attributes");
    }

    #[test]
    fn merged_spans_keep_all_events_the_last_count_and_the_newest_moment() {
        let deeds = |count| vec![(Deed::Join, count)];
        let spans: Vec<_> = (0..10).map(|index| span(index, Some(7), &deeds(2))).collect();
        for by in [2, 4] {
            let few = merged(&spans, by);
            assert_eq!(few.len(), 10_usize.div_ceil(by));
            assert_eq!(few.iter().map(RailSpan::events).sum::<u64>(), 20);
            assert_eq!((few[0].begin_ms, few[few.len() - 1].end_ms), (0, 1_000));
        }
        let quiet = [RailSpan { newest_ms: Some(42), ..span(0, None, &deeds(1)) }, span(1, Some(2), &[])];
        let one = &merged(&quiet, 2)[0];
        assert_eq!((one.moment_ms(), one.members), (42, Some(2)));
    }

    #[test]
    fn the_line_is_broken_where_the_number_is_not_known() {
        let spans = [span(0, Some(2), &[]), span(1, None, &[]), span(2, Some(4), &[]), span(3, Some(0), &[])];
        assert_eq!(lines(&spans), ["0,32 250,32", "500,2 750,2 750,62 1000,62"]);
        assert_eq!(lines(&[span(0, None, &[])]), Vec::<String>::new());
        assert_eq!(lines(&[span(0, Some(u64::MAX), &[])]).len(), 1, "a number without end is drawn");
    }

    #[test]
    fn the_moment_of_the_page_stands_in_its_place_and_outside_nowhere() {
        let spans = [span(0, Some(1), &[]), span(1, Some(1), &[])];
        for (at, shown) in
            [(0, Some("0.00%")), (50, Some("25.00%")), (200, Some("100.00%")), (201, None), (-1, None)]
        {
            assert_eq!(place(&spans, at).as_deref(), shown, "{at}");
            assert_eq!(drawn(&spans, Some(at)).contains("rail-at"), shown.is_some());
        }
        assert_eq!(place(&[], 1), None);
        assert_eq!(drawn(&[], Some(1)), "");
    }
}
