//! The `simulate` command: makes the plan from arguments and settings, shows progress, prints the results.
//!
//! Results go to standard output, the progress bar to standard error. Exit code 1 means that a callback was not answered
//! with OK, or that `--verify` found differences or nothing to compare.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, SecondsFormat};
use indicatif::{ProgressBar, ProgressStyle};

use super::database::{Cluster, open_database, stop_embedded};
use crate::cli::SimulateArgs;
use crate::clock;
use crate::config::Settings;
use crate::simulate::{
    self, ANSWER_WAIT_MAX, CALLBACKS_MAX, DEMO_FIRST_GROUP, DEMO_PARKED, Findings, Plan, Sent, Tally,
    demo_before_the_removals, demo_begin,
};

/// `simulate`.
///
/// # Errors
/// An argument is out of its range; with `--verify`: the read API does not answer.
pub async fn simulate(settings: &Settings, args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let plan = plan(settings, args).await?;
    let sent = send(&plan, args.demo).await?;
    print_answers(&sent.tally)?;
    let mut right = sent.tally.is_clean(if args.demo { DEMO_PARKED } else { 0 });
    if args.demo && right {
        print_places(&plan, args)?;
    }
    if args.verify {
        let (_, _, api_token) = settings.sender(args.app.as_deref())?;
        let opened =
            if args.rows { Some(open_database(&settings.config(), Cluster::Required).await?) } else { None };
        let checking = bar(u64::from(plan.groups), "groups");
        let database = opened.as_ref().map(|(database, _)| database);
        let api = (args.api_url.as_str(), api_token.as_deref());
        let findings = simulate::verify(&plan, &sent, api, database, || checking.inc(1)).await;
        checking.finish_and_clear();
        if let Some((database, embedded)) = opened {
            database.close().await;
            stop_embedded(embedded).await?;
        }
        let findings = findings?;
        right &= findings.differences == 0 && findings.groups > 0;
        print_findings(&findings)?;
    }
    Ok(ExitCode::from(u8::from(!right)))
}

async fn send(plan: &Plan, demo: bool) -> anyhow::Result<Sent> {
    if demo {
        let sending = ProgressBar::new_spinner();
        let sent = simulate::send_demo(plan, || sending.inc(1)).await;
        sending.finish_and_clear();
        return sent;
    }
    let sending = bar(plan.callbacks, "callbacks");
    let shown = sending.clone();
    let sent = simulate::send(plan, move || shown.inc(1)).await;
    sending.finish_and_clear();
    sent
}

async fn plan(settings: &Settings, args: &SimulateArgs) -> anyhow::Result<Plan> {
    for (name, share) in
        [("--duplicates", args.duplicates), ("--disorder", args.disorder), ("--membership", args.membership)]
    {
        ensure!((0.0..=1.0).contains(&share), "{name} is {share}; it should be a share from 0 to 1");
    }
    ensure!(
        (1..=CALLBACKS_MAX).contains(&args.callbacks),
        "--callbacks is {}; it should be from 1 to {CALLBACKS_MAX}",
        args.callbacks
    );
    let (app, token, api_token) = settings.sender(args.app.as_deref())?;
    let begin = if args.demo {
        let known = simulate::known_demo(app, (&args.api_url, api_token.as_deref())).await?;
        known.unwrap_or_else(|| demo_begin(clock::now()))
    } else {
        clock::now()
    };
    Ok(Plan {
        callback_url: args.callback_url.clone(),
        app,
        token,
        callbacks: args.callbacks,
        rate: args.rate,
        connections: args.connections,
        groups: args.groups.max(1),
        users: args.users,
        duplicates: args.duplicates,
        disorder: args.disorder,
        delay: Duration::from_millis(args.delay_ms),
        membership: args.membership,
        seed: args.seed,
        run: args.run.clone().unwrap_or_else(|| format!("sim-{}-{}", args.seed, begin.get())),
        begin,
    })
}

/// Where to look in the demo world.
fn print_places(plan: &Plan, args: &SimulateArgs) -> anyhow::Result<()> {
    let at = demo_before_the_removals(plan.begin).get();
    let at = DateTime::from_timestamp_millis(at).unwrap_or_default();
    let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let group = |id: &str| form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>();
    let owls = group(DEMO_FIRST_GROUP);
    let console = args.api_url.trim_end_matches('/');
    let mut out = std::io::stdout();
    writeln!(out, "the demo world is in the mirror; look at it on the console:")?;
    for (what, path) in [
        ("why was lena.fischer thrown out?", "/users/lena.fischer".to_owned()),
        ("the group before that", format!("/groups/{owls}?at={at}")),
        ("what did the moderator do last night?", "/users/boris-2".to_owned()),
        ("a group that was dismissed", format!("/groups/{}", group("@TGS#2WINTERPOEM"))),
        ("callbacks that cannot be read", "/parked".to_owned()),
    ] {
        writeln!(out, "  {what:<38} {console}{path}")?;
    }
    Ok(())
}

fn print_answers(tally: &Tally) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = tally.micros.len() as f64 / tally.took.as_secs_f64().max(0.001);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "answers: {} OK, {} parked, {} unavailable, {}, {} not reached, {} none in {} s; {rate:.0} OK/s in {:.1} s",
        tally.ok,
        tally.parked,
        tally.unavailable,
        refused(&tally.refused),
        tally.not_reached,
        tally.unanswered,
        ANSWER_WAIT_MAX.as_secs(),
        tally.took.as_secs_f64()
    )?;
    if tally.micros.is_empty() {
        return Ok(());
    }
    let at = |share| tally.percentile_ms(share);
    writeln!(
        out,
        "answer times: median {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    )?;
    Ok(())
}

/// `0 refused`, or `21 refused (20 with 403, 1 with 502)`.
fn refused(by_status: &BTreeMap<u16, u64>) -> String {
    let count: u64 = by_status.values().sum();
    if count == 0 {
        return "0 refused".to_owned();
    }
    let each: Vec<String> =
        by_status.iter().map(|(status, count)| format!("{count} with {status}")).collect();
    format!("{count} refused ({})", each.join(", "))
}

fn print_findings(findings: &Findings) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for line in &findings.lines {
        writeln!(out, "{line}")?;
    }
    let printed = findings.lines.len() as u64;
    if findings.differences > printed {
        writeln!(out, "… and {} more", findings.differences - printed)?;
    }
    let result = match (findings.groups, findings.differences) {
        (0, _) => "nothing was compared: no group had all its callbacks answered with OK".to_owned(),
        (_, 0) => "0 differences: the mirror is what was sent".to_owned(),
        (_, count) => format!("{count} differences: the mirror differs from what was sent"),
    };
    let rows = findings.rows.map_or_else(String::new, |rows| format!(", {rows} rows"));
    writeln!(
        out,
        "{} groups, {} memberships{rows} compared, {} groups left out, {result}",
        findings.groups, findings.members, findings.uncertain
    )?;
    Ok(())
}

/// A progress bar on standard error, drawn only if that is a terminal.
fn bar(length: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {what}, {{per_sec}}, {{eta}}");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
