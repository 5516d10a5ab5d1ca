//! The command line: one file per command, and the exit codes that all share.
//!
//! 0 is success, 1 an internal error or a failed start, 2 wrong usage, 3 files that do not load, 4 a policy
//! test that failed, 5 coverage below the minimum. Without a command the gateway runs.

mod check;
mod docs;
mod explain;
mod jose;
mod jsonpath;
mod lines;
mod own;
mod pipeline;
mod reference;
mod run;
mod schema;
mod secret;
mod shell;
mod sign;
mod test;
mod trace;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::source::{Diagnostics, Sources, render};

/// It did what it was asked for.
pub const OK: u8 = 0;
/// Something inside or around it failed.
pub const FAILED: u8 = 1;
/// The arguments made no sense; clap uses the same number.
pub const WRONG_USAGE: u8 = 2;
/// Files do not load.
pub const INVALID: u8 = 3;
/// A policy test failed.
pub const TESTS_FAILED: u8 = 4;
/// Policy tests cover less than was asked for.
pub const UNCOVERED: u8 = 5;

/// A policy-driven API gateway.
#[derive(Debug, Parser)]
#[command(name = "gatewright", version, about, disable_help_subcommand = true)]
struct Arguments {
    /// `run` where none is named.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM; exits with 0 when drained, 1 when it cannot start, 3 when the files do not load.
    Run(run::RunArguments),
    /// Loads everything and prints every mistake; exits with 3 where there are errors.
    Check(check::CheckArguments),
    /// Runs the policies' own tests; exits with 4 where one fails, 5 where they cover too little.
    Test(test::TestArguments),
    /// Follows live requests step by step, or shows those that failed last.
    Trace(trace::TraceArguments),
    /// Explains a code: of a fault, or of a mistake in a file.
    Explain(explain::ExplainArguments),
    /// Writes the reference of assertions and resources.
    Docs(docs::DocsArguments),
    /// Prints or writes JSON Schema for editors.
    Schema(schema::SchemaArguments),
    /// Answers JSONPath queries from standard input, one JSON object with `selector` and `document` per line.
    Jsonpath(jsonpath::JsonPathArguments),
    /// Takes signed tokens apart and verifies them, one per line of standard input.
    Jose(jose::JoseArguments),
    /// Signs texts, one per line of standard input.
    Sign(sign::SignArguments),
    /// Works with secrets.
    Secret(secret::SecretArguments),
    /// Prints completions for a shell.
    Completions(shell::CompletionsArguments),
    /// Prints the manual page, in roff.
    Man,
}

impl Default for Command {
    fn default() -> Self {
        Command::Run(run::RunArguments::default())
    }
}

/// The file that says how the process is set up.
#[derive(Debug, Default, clap::Args)]
struct ConfigArgument {
    /// Without it ./gateway.yaml where that is there, else the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command that the process's arguments name; returns the exit code.
pub fn main() -> u8 {
    match Arguments::parse().command.unwrap_or_default() {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Docs(arguments) => docs::docs(&arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Jsonpath(arguments) => jsonpath::jsonpath(&arguments),
        Command::Jose(arguments) => jose::jose(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Secret(arguments) => secret::secret(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man => shell::man(),
    }
}

/// Shows diagnostics to whoever started the command.
fn show(sources: &Sources, diags: &Diagnostics) {
    let text = render(sources, diags, std::io::stderr().is_terminal());
    // There is nobody else to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes to standard output. Whoever reads it may have left, as `head` does: that is no failure.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
