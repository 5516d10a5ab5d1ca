//! The `gatewright` command: arguments to the library, an exit code back.

use std::process::ExitCode;

/// A request makes some thirty short-lived allocations, freed on the thread that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(gatewright::cli::main())
}
