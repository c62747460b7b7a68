//! Parses the command line, starts telemetry, runs one command, turns an error into one line and an exit code.
//!
//! Knows which function belongs to which command, and nothing of what it does. Exit codes: 0; 1, found something
//! wrong; 2, could not run.

use std::process::ExitCode;

use clap::Parser as _;
use group_mirror::app;
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
            // The last word of a command belongs on standard error, whatever the log filter says.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("group-mirror: {}\n", told(&error)),
            );
            ExitCode::from(EXIT_COULD_NOT_RUN)
        }
    }
}

/// An error with its causes, each told once: the texts of the two errors named here tell their own.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if !told.contains(&words) {
            told.push_str(if told.is_empty() { "" } else { ": " });
            told.push_str(&words);
        }
        if cause.is::<StoreError>() || cause.is::<EmbeddedError>() {
            break;
        }
    }
    told
}

fn run() -> anyhow::Result<ExitCode> {
    config::read_dotenv()?;
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            anyhow::bail!("{line}; see --help")
        }
    };
    let (format, filter) = cli.settings.logging()?;
    telemetry::start_logging(format, filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => app::serve(&cli.settings).await,
            Command::Migrate => app::migrate(&cli.settings.config()).await,
            Command::Simulate(args) => app::simulate(&cli.settings, &args).await,
            Command::Replay { verify, parked, cause } => {
                let wanted = app::ReplayWanted { verify, parked, cause };
                app::replay(&cli.settings.config(), wanted).await
            }
            Command::Openapi => app::openapi(),
        }
    })
}
