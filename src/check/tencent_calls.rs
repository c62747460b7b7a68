//! Tencent's REST API of an app: whether its host is a known one, whether it is reached and accepts the UserSig, Tencent's
//! clock, and how many groups there are against those of the mirror.
//!
//! One call of the list of ids answers all of it. Another app's credentials look like an app without groups, so a count
//! that is far off is shown beside the credentials. A passing fault is tried again a few times, no more: a person waits.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::line::{CheckLine, CheckSubject, secs_shown};
use super::remedies;
use crate::model::Millis;
use crate::store::condition::GroupTotals;
use crate::tencent::client::TencentClient;
use crate::tencent::codes::CodeClass;
use crate::tencent::groups::GroupIdPage;
use crate::tencent::{AnswerHead, CallError, Reply};

/// The hosts that Tencent's pages name, with their regions. The standby of each but the first ends in `.my-imcloud.com`.
const HOSTS: [(&str, &str); 10] = [
    ("console.tim.qq.com", "China"),
    ("adminapi.my-imcloud.com", "China, standby"),
    ("adminapisgp.im.qcloud.com", "Singapore"),
    ("adminapikr.im.qcloud.com", "Seoul"),
    ("adminapiger.im.qcloud.com", "Frankfurt"),
    ("adminapiusa.im.qcloud.com", "Silicon Valley"),
    ("adminapijpn.im.qcloud.com", "Tokyo"),
    ("adminapiidn.im.qcloud.com", "Jakarta"),
    ("adminapiksa.im.qcloud.com", "Saudi Arabia"),
    ("adminapiind.im.qcloud.com", "Mumbai"),
];

/// How far `Date`, which has whole seconds, may stand from this host's clock without a word.
const CLOCK_MAX_MS: i64 = 2_000;

/// How often a call is made that fails for a passing fault.
const ATTEMPTS: u32 = 3;

/// The pause between them.
const PAUSE: Duration = Duration::from_secs(2);

/// Ids of the one page that is read.
const PAGE: u32 = 100;

/// The region of a host that Tencent's pages name.
#[must_use]
pub fn region(url: &str) -> Option<&'static str> {
    let host = url.split_once("://").map_or(url, |(_, host)| host).trim_end_matches('/');
    let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    let is = |known: &&(&str, &str)| {
        host == known.0
            || known
                .0
                .strip_suffix(".im.qcloud.com")
                .is_some_and(|name| host == format!("{name}.my-imcloud.com"))
    };
    HOSTS.iter().find(is).map(|(_, region)| *region)
}

/// The first answer, with what it was asked of.
struct FirstCall {
    page: Result<Reply<GroupIdPage>, CallError>,
    head: Option<(AnswerHead, Millis)>,
}

async fn first_call(client: &TencentClient, stop: &CancellationToken) -> FirstCall {
    let mut attempt = 1;
    loop {
        let page = client.group_ids(0, PAGE, None, stop).await;
        let passes = match &page {
            Err(error @ (CallError::Exchange { .. } | CallError::Code { .. })) => {
                matches!(error.class(), None | Some(CodeClass::Again | CodeClass::Rate))
            }
            _ => false,
        };
        if !passes || attempt == ATTEMPTS {
            return FirstCall { page, head: client.last_head() };
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks at the API of one app. `url` and `admin` are shown; `totals` is what the mirror has, `max_skew_secs` what the
/// receiver allows of `RequestTime`.
pub async fn lines(
    client: &TencentClient,
    (url, admin): (&str, &str),
    totals: Option<GroupTotals>,
    max_skew_secs: u64,
    stop: &CancellationToken,
) -> Vec<CheckLine> {
    let FirstCall { page, head } = first_call(client, stop).await;
    let mut lines = vec![answer_line(&page, url, admin)];
    lines.extend(head.map(|(head, came_at)| clock_line(&head, came_at, max_skew_secs)));
    if let Ok(page) = &page {
        lines.push(groups_line(&page.answer, totals));
    }
    lines
}

fn answer_line(page: &Result<Reply<GroupIdPage>, CallError>, url: &str, admin: &str) -> CheckLine {
    let is_loopback = url.starts_with("http://");
    let region = region(url).or(is_loopback.then_some("this machine"));
    let place = region.unwrap_or("a host that no page of Tencent's names");
    match page {
        Ok(_) => {
            let found = format!("{url} ({place}) accepts the UserSig of {admin:?}");
            if region.is_none() {
                let remedy = "where this is no proxy of yours: set TENCENT_API_URL to the host of the app's region, and make a \
                              new secret key, because a UserSig was sent there";
                return CheckLine::warning(CheckSubject::Tencent, found, remedy);
            }
            CheckLine::ok(CheckSubject::Tencent, found)
        }
        Err(error) => {
            let found = format!("{url} ({place}): {error}");
            CheckLine::wrong(CheckSubject::Tencent, found, remedies::of_error(error, error.class()))
        }
    }
}

/// The clock of Tencent as its `Date` shows it.
fn clock_line(head: &AnswerHead, came_at: Millis, max_skew_secs: u64) -> CheckLine {
    let subject = CheckSubject::TencentClock;
    let Some(date) = head.date else {
        return CheckLine::ok(subject, "the answer has no Date, so its clock is not known");
    };
    let took = i64::try_from(head.took.as_millis()).unwrap_or(i64::MAX);
    // Tencent's clock was somewhere in this second when it wrote, and ours between sending and receipt.
    let distance = date.get() + 500 - (came_at.get() - took / 2);
    let side = if distance > 0 { "behind" } else { "ahead of" };
    let found =
        format!("this host's clock stands {} {side} Tencent's (known to a second)", secs_shown(distance));
    let beyond = distance.abs() - took;
    let max_skew_ms = i64::try_from(max_skew_secs).unwrap_or(i64::MAX).saturating_mul(1000);
    if beyond > max_skew_ms {
        let remedy =
            "set this host's clock right (NTP): every signed callback is refused, by CALLBACK_MAX_SKEW_SECS";
        CheckLine::wrong(subject, found, remedy)
    } else if beyond > CLOCK_MAX_MS {
        CheckLine::warning(subject, found, "set this host's clock right (NTP)")
    } else {
        CheckLine::ok(subject, found)
    }
}

fn groups_line(page: &GroupIdPage, totals: Option<GroupTotals>) -> CheckLine {
    let subject = CheckSubject::Groups;
    let Some(at_tencent) = page.total else {
        let remedy = "report it with the answers of `group-mirror check --probe`";
        return CheckLine::warning(subject, "Tencent's list of groups has no TotalCount", remedy);
    };
    let Some(totals) = totals else {
        return CheckLine::ok(
            subject,
            format!("Tencent has {at_tencent} groups; those of the mirror were not counted"),
        );
    };
    let active = totals.active;
    let found = format!(
        "Tencent has {at_tencent} groups, the mirror {active} active ones and {} unseen",
        totals.unseen
    );
    let (at_tencent, active) = (i64::try_from(at_tencent).unwrap_or(i64::MAX), active);
    if at_tencent == active {
        return CheckLine::ok(subject, found);
    }
    let remedy = match (at_tencent, active) {
        (0, _) => {
            "look whether SDK_APP_ID and TENCENT_SECRET_KEY are those of the app that the callbacks come from"
        }
        _ if at_tencent > active => {
            "read what was there before the mirror, or was missed, by `group-mirror backfill`; a few may be new or on their way"
        }
        _ => {
            "let `group-mirror reconcile` look at what has ended without a callback; a few may be on their way"
        }
    };
    CheckLine::warning(subject, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::line::CheckLevel;

    #[test]
    fn the_region_of_a_host_is_known_and_that_of_its_standby() {
        for (url, wanted) in [
            ("https://console.tim.qq.com", Some("China")),
            ("https://CONSOLE.tim.qq.com:443/", Some("China")),
            ("https://adminapisgp.im.qcloud.com", Some("Singapore")),
            ("https://adminapisgp.my-imcloud.com", Some("Singapore")),
            ("https://adminapi.my-imcloud.com", Some("China, standby")),
            ("https://console.tim.qq.com.example.org", None),
            ("http://127.0.0.1:8090", None),
        ] {
            assert_eq!(region(url), wanted, "{url}");
        }
    }

    #[test]
    fn a_clock_beyond_the_allowed_skew_is_wrong_and_one_that_is_somewhat_off_a_warning() {
        let level = |date: Option<i64>| {
            let head = AnswerHead {
                date: date.map(Millis::new),
                content_type: None,
                took: Duration::from_millis(100),
            };
            clock_line(&head, Millis::new(1_000_000_550), 60).level
        };
        assert_eq!(level(None), CheckLevel::Ok);
        for (date, wanted) in [
            (1_000_000_000, CheckLevel::Ok),
            (1_000_002_000, CheckLevel::Ok),
            (999_997_000, CheckLevel::Warning),
            (1_000_030_000, CheckLevel::Warning),
            (1_000_061_000, CheckLevel::Wrong),
            (999_900_000, CheckLevel::Wrong),
        ] {
            assert_eq!(level(Some(date)), wanted, "{date}");
        }
    }

    #[test]
    fn counts_that_differ_are_a_warning_with_what_to_do() {
        let line = |total, active| {
            let page = GroupIdPage {
                total,
                groups: Vec::new(),
                next: 0,
                unread: crate::tencent::UnreadParts::default(),
            };
            groups_line(&page, Some(GroupTotals { active, communities: 0, unseen: 1 }))
        };
        assert_eq!(line(Some(3), 3).level, CheckLevel::Ok);
        for (total, active, words) in [(5, 3, "backfill"), (2, 3, "reconcile"), (0, 3, "SDK_APP_ID")] {
            let line = line(Some(total), active);
            assert!(line.level == CheckLevel::Warning && line.remedy.unwrap().contains(words), "{total}");
        }
        assert_eq!(line(None, 3).level, CheckLevel::Warning);
    }
}
