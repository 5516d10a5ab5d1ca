//! The `gatewright` command: arguments to the library, an exit code back.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(gatewright::cli::main())
}
