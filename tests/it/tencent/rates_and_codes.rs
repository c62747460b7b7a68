//! What each code asks for, the share of the limits, and the pauses between attempts: pure rules as tables.

use std::time::Duration;

use group_mirror::tencent::codes::{CodeClass, class};
use group_mirror::tencent::commands::ReadCommand;
use group_mirror::tencent::rate::Allowance;
use group_mirror::tencent::retry::back_off;
use tokio::time::Instant;

#[test]
fn every_known_code_has_its_class() {
    let table: [(CodeClass, &[i64]); 11] = [
        (CodeClass::Gone, &[10010, 10015]),
        (CodeClass::Unsupported, &[10007, 10059, 11000]),
        (CodeClass::TooMuch, &[10005, 10018, 10054]),
        (CodeClass::Rate, &[10006, 60007, 60011, 60018, 60019, 10049]),
        (
            CodeClass::Again,
            &[10002, 60008, 60013, 60014, 70169, 70202, 70500, 90992, 90994, 90995, 91000, 1, -1, 123_456],
        ),
        (CodeClass::Signature, &[70001, 60004, 60005, 10008, 10001]),
        (
            CodeClass::Stop,
            &[
                60006, 60010, 60012, 60016, 60017, 60020, 60021, 10026, 70002, 70003, 70005, 70009, 70013,
                70014, 70016, 70020, 70051, 70402, 70403,
            ],
        ),
        (CodeClass::Wait, &[70050]),
        (CodeClass::Bug, &[10003, 10004, 10011, 60002, 60003, 60009, 60015]),
        (CodeClass::TopicGone, &[110_003, 110_002]),
        (
            CodeClass::Refused,
            &[
                10009, 10012, 10013, 10014, 10016, 10017, 10019, 10021, 10023, 10024, 10025, 10036, 10037,
                10038, 10045, 10046, 10047, 10048, 10050, 10056, 10058, 10060, 10061, 10062, 10063, 70101,
                70107, 70114, 70206, 70398, 72000, 72001, 80001, 80002, 80003, 80004, 93000, 110_006,
                110_010, 110_014,
            ],
        ),
    ];
    for (wanted, codes) in table {
        for code in codes {
            assert_eq!(class(*code, ReadCommand::GroupInfo), wanted, "{code}");
        }
    }
}

/// Elsewhere the code has other documented meanings, and a wrong "gone" would end a group.
#[test]
fn only_profiles_prove_that_an_id_is_gone_by_10015() {
    use strum::VariantArray as _;
    for command in ReadCommand::VARIANTS {
        let wanted = if *command == ReadCommand::GroupInfo { CodeClass::Gone } else { CodeClass::Refused };
        assert_eq!(class(10015, *command), wanted, "{command:?}");
        assert_eq!(class(10010, *command), CodeClass::Gone, "{command:?}");
    }
}

#[test]
fn commands_have_their_services_and_published_rates() {
    for (command, path, rate) in [
        (ReadCommand::GroupIds, "group_open_http_svc/get_appid_group_list", 1.0),
        (ReadCommand::GroupInfo, "group_open_http_svc/get_group_info", 200.0),
        (ReadCommand::Members, "group_open_http_svc/get_group_member_info", 200.0),
        (ReadCommand::SpecifiedMembers, "group_open_http_svc/get_specified_group_member_info", 200.0),
        (ReadCommand::Roles, "group_open_http_svc/get_role_in_group", 200.0),
        (ReadCommand::Muted, "group_open_http_svc/get_group_muted_account", 200.0),
        (ReadCommand::JoinedGroups, "group_open_http_svc/get_joined_group_list", 200.0),
        (ReadCommand::Attributes, "group_open_attr_http_svc/get_group_attr", 200.0),
        (ReadCommand::Topics, "million_group_open_http_svc/get_topic", 200.0),
    ] {
        assert_eq!(format!("{}/{}", command.service(), command.name()), path);
        assert!((command.published_rate() - rate).abs() < f64::EPSILON, "{path}");
    }
}

/// How many calls the limiter lets through in a time, when a caller is always ready.
fn calls_in(allowance: &mut Allowance, from: Instant, time: Duration) -> u32 {
    let (mut now, mut calls) = (from, 0);
    loop {
        let due = allowance.due(now);
        now = now.max(due);
        if now >= from + time {
            return calls;
        }
        allowance.count(now);
        calls += 1;
    }
}

#[test]
fn calls_keep_to_the_share_of_the_limit() {
    let start = Instant::now();
    for (limit, share, secs, least, most) in [
        (200.0, 0.2, 10, 400, 405),
        (200.0, 1.0, 10, 2000, 2020),
        (1.0, 1.0, 10, 10, 10),
        (1.0, 0.2, 60, 12, 12),
        (20_000.0, 1.0, 1, 20_000, 22_001),
    ] {
        let mut allowance = Allowance::new(limit, share, start);
        let calls = calls_in(&mut allowance, start, Duration::from_secs(secs));
        assert!((least..=most).contains(&calls), "{calls} calls at {share} of {limit} in {secs} s");
    }
}

#[test]
fn a_late_timer_does_not_lower_the_rate_and_a_long_pause_gives_no_great_burst() {
    let start = Instant::now();
    let mut allowance = Allowance::new(1000.0, 1.0, start);
    let (mut now, mut calls) = (start, 0);
    while now < start + Duration::from_secs(1) {
        // The timer wakes 3 ms late, for three calls that were due.
        now += Duration::from_millis(3);
        while allowance.due(now) <= now {
            allowance.count(now);
            calls += 1;
        }
    }
    assert!((990..=1105).contains(&calls), "{calls}");
    let later = now + Duration::from_secs(3600);
    let burst = calls_in(&mut allowance, later, Duration::from_nanos(1));
    assert!((50..=101).contains(&burst), "{burst}");
}

#[test]
fn a_rate_code_halves_the_share_once_and_each_quiet_minute_gives_a_point_back() {
    let start = Instant::now();
    let at = |secs: u64| start + Duration::from_secs(secs);
    let mut allowance = Allowance::new(200.0, 0.2, start);
    let is = |allowance: &Allowance, share: f64| (allowance.share() - share).abs() < 1e-9;
    allowance.halve(at(0), at(1));
    allowance.halve(at(0), at(1));
    assert!(is(&allowance, 0.1), "calls that were under way together halve it once: {}", allowance.share());
    allowance.halve(at(2), at(3));
    assert!(is(&allowance, 0.05), "{}", allowance.share());
    let due = allowance.due(at(62));
    assert!(due <= at(62) && is(&allowance, 0.05), "59 quiet seconds");
    let _ = allowance.due(at(63));
    assert!(is(&allowance, 0.06), "{}", allowance.share());
    let _ = allowance.due(at(63 + 600));
    assert!(is(&allowance, 0.16), "{}", allowance.share());
    let _ = allowance.due(at(63 + 6000));
    assert!(is(&allowance, 0.2), "never above what was set: {}", allowance.share());
    for round in 0..100 {
        allowance.halve(at(10_000 + 2 * round), at(10_001 + 2 * round));
    }
    assert!(allowance.share() >= 0.005, "calls do not end: {}", allowance.share());
}

#[test]
fn pauses_double_up_to_a_limit_and_chance_settles_their_second_half() {
    let (first, longest) = (Duration::from_millis(200), Duration::from_secs(10));
    for (repeat, chance, millis) in [
        (1, 1.0, 200),
        (1, 0.0, 100),
        (2, 1.0, 400),
        (3, 0.5, 600),
        (6, 1.0, 6_400),
        (7, 1.0, 10_000),
        (60, 0.0, 5_000),
        (u32::MAX, 1.0, 10_000),
    ] {
        assert_eq!(
            back_off(first, longest, repeat, chance),
            Duration::from_millis(millis),
            "{repeat} {chance}"
        );
    }
}
