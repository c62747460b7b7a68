//! The `simulate` command: makes the plan out of arguments and settings, shows progress, prints what came of it.
//!
//! Results go to standard output, the progress bar to standard error. Exit code 1 means that `--verify` found the
//! mirror to differ, or that a callback was not answered with OK.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};

use super::database::{Cluster, open_database, stop_embedded};
use crate::cli::SimulateArgs;
use crate::clock;
use crate::config::Settings;
use crate::simulate::{self, CALLBACKS_MAX, Findings, Plan, Tally};

/// `simulate`.
///
/// # Errors
/// An argument out of its range; with `--verify` a read API that does not answer.
pub async fn simulate(settings: &Settings, args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let plan = plan(settings, args)?;
    let sending = bar(plan.callbacks, "callbacks");
    let shown = sending.clone();
    let sent = simulate::send(&plan, move || shown.inc(1)).await?;
    sending.finish_and_clear();
    print_answers(&sent.tally)?;
    let mut right =
        sent.tally.unanswered + sent.tally.refused + sent.tally.unavailable + sent.tally.parked == 0;
    if args.verify {
        let (_, _, api_token) = settings.sender()?;
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
        right &= findings.differences == 0;
        print_findings(&findings)?;
    }
    Ok(ExitCode::from(u8::from(!right)))
}

fn plan(settings: &Settings, args: &SimulateArgs) -> anyhow::Result<Plan> {
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
    let (app, token, _) = settings.sender()?;
    let begin = clock::now();
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

fn print_answers(tally: &Tally) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = tally.micros.len() as f64 / tally.took.as_secs_f64().max(0.001);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "answers: {} OK, {} parked, {} unavailable, {} refused, {} none in 2 s; {rate:.0} OK/s in {:.1} s",
        tally.ok,
        tally.parked,
        tally.unavailable,
        tally.refused,
        tally.unanswered,
        tally.took.as_secs_f64()
    )?;
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

fn print_findings(findings: &Findings) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for line in &findings.told {
        writeln!(out, "{line}")?;
    }
    let printed = findings.told.len() as u64;
    if findings.differences > printed {
        writeln!(out, "… and {} more", findings.differences - printed)?;
    }
    let done = if findings.differences == 0 {
        "the mirror is what was sent"
    } else {
        "the mirror differs from what was sent"
    };
    writeln!(
        out,
        "{} groups, {} memberships, {} rows compared, {} groups left out, {} differences: {done}",
        findings.groups, findings.members, findings.rows, findings.uncertain, findings.differences
    )?;
    Ok(())
}

/// Drawn on standard error, and only if that is a terminal.
fn bar(length: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {what}, {{per_sec}}, {{eta}}");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
