//! The `man` and `completions` commands: what shells and manual readers are given, made from the command line's definition.
//!
//! Both are generated, so that neither can differ from what the program takes. Neither needs settings or a database.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap_mangen::Man;

use crate::cli::{CompletionsArgs, ManArgs, definition};

/// The name of the program.
const NAME: &str = "group-mirror";

/// `man`.
///
/// # Errors
/// A directory, or a standard output, that cannot be written.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    // The list of commands is in the page; `help` prints the same.
    let definition = definition().disable_help_subcommand(true);
    match &args.dir {
        None => {
            let mut page = Vec::new();
            Man::new(definition).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
        Some(dir) => {
            let written =
                std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(definition, dir));
            written.with_context(|| format!("--dir: {}", dir.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `completions`.
///
/// # Errors
/// A standard output that cannot be written.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), NAME, &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
