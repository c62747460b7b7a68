//! Arguments of the commands beside the service: a signature, manual pages, completions.
//!
//! A file of its own because each of these prints something and touches nothing: none of them needs a database.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// What `sign` signs or looks at; apps and tokens are those of the settings.
#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// Which app of `SDK_APP_ID` [default: the first]
    #[arg(long, value_name = "ID", conflicts_with = "verify")]
    pub app: Option<String>,
    /// `RequestTime`, in Unix seconds; with --verify the time at which the request came [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// The command in the query [default: that of the body]
    #[arg(long, value_name = "COMMAND", conflicts_with = "verify")]
    pub command: Option<String>,
    /// The body of the callback: a file, or - for standard input [default: a notification of presence, which the mirror
    /// answers and does not keep]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["verify", "data"])]
    pub body: Option<PathBuf>,
    /// The body itself
    #[arg(long, value_name = "JSON", conflicts_with = "verify")]
    pub data: Option<String>,
    /// The URL of callbacks, as Tencent's console has it [default: the public listener of the settings]
    #[arg(long, value_name = "URL", conflicts_with = "verify")]
    pub callback_url: Option<String>,
    /// Verify the signature of a request: its URL or query string, as it stands in a proxy's log
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    pub verify: Option<String>,
}

/// Where manual pages go.
#[derive(Debug, Clone, Default, Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory, which is made where it is missing
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
}

/// For which shell.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}
