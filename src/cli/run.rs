//! `gatewright run`: serves until it is told to stop.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use super::{ConfigArgument, FAILED, INVALID, show};
use crate::audit::metrics::Metrics;
use crate::config::{self, Log, LogFormat};
use crate::process::Process;
use crate::reload;

#[derive(Debug, Default, clap::Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: RunArguments) -> u8 {
    let loaded = config::load(arguments.config.config.as_deref());
    show(&loaded.sources, &loaded.diags);
    let Some(config) = loaded.config else { return INVALID };
    start_log(config.log);
    let metrics = Metrics::new(config.workers);
    let first = match reload::first(&config, &metrics) {
        Ok(first) => first,
        Err((refused, why)) => {
            show(&refused.sources, &refused.diags);
            eprintln!("nothing valid to serve; `gatewright check` and `gatewright test` show the same\n{why}");
            return INVALID;
        }
    };
    first.set.warn();
    match Process::start(config, metrics, first) {
        Ok(process) => process.serve(),
        Err(error) => {
            tracing::error!(%error, "the gateway did not start");
            FAILED
        }
    }
}

/// The process's own log goes to standard error: standard output belongs to the records.
fn start_log(log: Log) {
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from_level(log.level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // It fails only where a log was started before, and then that one is used.
    let _ = match json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.try_init(),
    };
}
