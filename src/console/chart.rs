//! Small charts as SVG: a line of sixty minutes, without script and without styles of its own.
//!
//! A chart is a picture with a text that says the same, so a reader who does not see it misses nothing. Pure.

use maud::{Markup, html};

/// The size of the drawing; the style sheet scales it.
const WIDTH: usize = 236;
const HEIGHT: u64 = 40;

/// Values over time, oldest first; a missing one leaves a hole in the line. `text` says what the line shows.
pub(crate) fn sparkline(values: &[Option<u64>], text: &str) -> Markup {
    assert!(values.len() > 1, "a line has two points");
    let most = values.iter().copied().flatten().max().unwrap_or_default().max(1);
    let step = WIDTH / (values.len() - 1);
    let point = |(at, value): (usize, u64)| format!("{},{}", at * step, HEIGHT - value * (HEIGHT - 2) / most);
    html! {
        svg class="chart" role="img" aria-label=(text) viewBox={ "-2 -2 " (WIDTH + 4) " " (HEIGHT + 4) } preserveAspectRatio="none" {
            @for run in runs(values) {
                @let points: Vec<String> = run.into_iter().map(point).collect();
                @match points.as_slice() {
                    [single] => {
                        @let (x, y) = single.split_once(',').unwrap_or_default();
                        circle cx=(x) cy=(y) r="2" {}
                    }
                    _ => polyline points=(points.join(" ")) {}
                }
            }
        }
    }
}

/// The stretches without a hole, each value with its place.
fn runs(values: &[Option<u64>]) -> Vec<Vec<(usize, u64)>> {
    let mut runs: Vec<Vec<(usize, u64)>> = Vec::new();
    let mut is_open = false;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_open = false;
            continue;
        };
        match runs.last_mut().filter(|_| is_open) {
            Some(run) => run.push((at, *value)),
            None => runs.push(vec![(at, *value)]),
        }
        is_open = true;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn a_line_reaches_from_nothing_to_the_greatest_value_and_has_holes() {
        let drawn = sparkline(&[Some(0), Some(10), None, Some(5)], "<text>").into_string();
        assert!(drawn.contains("points=\"0,40 78,2\""), "{drawn}");
        assert!(drawn.contains("<circle cx=\"234\" cy=\"21\""), "{drawn}");
        assert!(drawn.contains("aria-label=\"&lt;text&gt;\""), "{drawn}");
        assert!(!sparkline(&[None, None], "").into_string().contains("points"));
    }

    #[test]
    fn the_greatest_numbers_are_drawn_too() {
        let drawn = sparkline(&[Some(u64::from(u32::MAX)), Some(1)], "").into_string();
        assert!(drawn.contains("0,2 236,40"), "{drawn}");
    }
}
