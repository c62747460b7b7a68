//! Parses the command line, starts telemetry, runs one command, turns an error into one line and an exit code.
//!
//! It maps each command to one function of `app` and knows nothing of what that does. Exit codes: 0, done; 1, a
//! difference was found; 2, the command could not run.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use group_mirror::app::{self, CheckedFiles};
use group_mirror::cli::{Cli, Command};
use group_mirror::config;
use group_mirror::embedded::EmbeddedError;
use group_mirror::store::StoreError;
use group_mirror::telemetry;

/// A command could not run, as against "found something wrong", which is 1.
const EXIT_COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // The reason of a failure belongs on standard error, whatever the log filter says.
            let _ = writeln!(std::io::stderr(), "group-mirror: {}", described(&error));
            ExitCode::from(EXIT_COULD_NOT_RUN)
        }
    }
}

/// An error with its causes, each named once: the texts of the two errors named here include those of their causes.
fn described(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
        if cause.is::<StoreError>() || cause.is::<EmbeddedError>() {
            break;
        }
    }
    text
}

/// The error of the command line's parser without its usage: the first line, and what the user may have meant.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
    let meant = lines.filter_map(|line| line.strip_prefix("tip: ")).filter(|tip| tip.contains("similar"));
    meant.fold(first.to_owned(), |line, tip| format!("{line}; {tip}"))
}

fn run() -> anyhow::Result<ExitCode> {
    config::check_environment()?;
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => anyhow::bail!("{}; see --help", one_line(&error.to_string())),
    };
    if let Some(done) = print_of_itself(cli.command.as_ref()) {
        return done;
    }
    let mut dotenv = config::read_dotenv()?;
    let filled = cli.settings.fill_up(&mut dotenv);
    if let Some(Command::Check(args)) = &cli.command {
        let files = CheckedFiles {
            dotenv: dotenv.found().map(Path::to_owned),
            unknown: dotenv.unknown(),
            fault: filled.err().map(|error| described(&error)),
        };
        return run_to_end(app::check(&cli.settings, &files, args));
    }
    filled?;
    match &cli.command {
        Some(Command::Ready) => return run_to_end(app::ready(&cli.settings)),
        Some(Command::Sign(args)) => return app::sign(&cli.settings, args),
        _ => {}
    }
    let (format, filter) = cli.settings.logging()?;
    telemetry::start_logging(format, filter)?;
    if let Some(names) = dotenv.unknown() {
        tracing::warn!(
            "{} has names that are no settings and have no effect: {names}",
            dotenv.path().display()
        );
    }
    run_to_end(async {
        match cli.command.unwrap_or(Command::Serve { adopt_database: false }) {
            Command::Serve { adopt_database } => {
                app::serve(&cli.settings, dotenv.found(), adopt_database).await
            }
            Command::Migrate => app::migrate(&cli.settings.config()).await,
            Command::Simulate(args) => app::simulate(&cli.settings, &args).await,
            Command::Replay { verify, parked, cause, resume } => {
                let wanted = app::ReplayWanted { verify, parked, cause, resume };
                app::replay(&cli.settings.config(), wanted).await
            }
            Command::Backfill { app } => app::backfill(&cli.settings, app.as_deref()).await,
            Command::Reconcile { app, dry_run } => {
                app::reconcile(&cli.settings, app.as_deref(), dry_run).await
            }
            Command::Relay(args) => app::relay(&cli.settings, &args).await,
            Command::Prune(args) => app::prune(&cli.settings, &args).await,
            Command::EraseUser(args) => app::erase_user(&cli.settings, &args).await,
            Command::FakeTencent(args) => app::fake_tencent(&cli.settings, &args).await,
            Command::Check(_)
            | Command::Ready
            | Command::Sign(_)
            | Command::Version { .. }
            | Command::Openapi
            | Command::Completions(_)
            | Command::Man(_) => unreachable!("it has returned above, before logging began"),
        }
    })
}

/// Commands that print what the program knows by itself: none needs a setting, so a wrong one, or a `.env` that cannot be
/// read, does not keep a person from them.
fn print_of_itself(command: Option<&Command>) -> Option<anyhow::Result<ExitCode>> {
    match command? {
        Command::Version { json } => Some(app::version(*json)),
        Command::Openapi => Some(app::openapi()),
        Command::Completions(args) => Some(app::completions(args)),
        Command::Man(args) => Some(app::man(args)),
        _ => None,
    }
}

/// Runs a command on a runtime of its own.
fn run_to_end(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // Everything that matters is stopped by now; work that was given up, after a second signal, is not waited for.
    runtime.shutdown_background();
    done
}
