//! The command line: one variant, one function of one module. Settings are those of `config`.
//!
//! Knows no command from the inside; `main` calls it. Texts here are what `--help` prints.

use clap::{Parser, Subcommand};

use crate::config::Settings;

/// Mirrors Tencent Cloud Chat groups into PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    max_term_width = 110,
    after_help = "Example, with nothing set and a PostgreSQL of its own:\n  group-mirror"
)]
pub struct Cli {
    /// What to do; `serve` if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings, by flag or environment
    #[command(flatten)]
    pub settings: Settings,
}

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Receive callbacks and serve the mirror
    #[command(
        after_help = "Example:\n  CALLBACK_TOKEN=… API_TOKEN=desk:… SDK_APP_ID=1400000001 \\\n  DATABASE_URL=postgres://mirror:…@db/mirror group-mirror serve"
    )]
    Serve,
    /// Bring the schema of the database up to date
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://mirror:…@db/mirror group-mirror migrate")]
    Migrate,
}
