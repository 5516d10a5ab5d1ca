//! `gatewright run`: serves until it is told to stop.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use super::{ConfigArgument, FAILED, INVALID, show};
use crate::audit::metrics::Metrics;
use crate::config::{self, Log, LogFormat};
use crate::process::{DRAINED, Failed, Process, Services};
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
    let logs_json = start_log(config.log);
    let metrics = Metrics::new(config.workers);
    let mut services = match Services::begin() {
        Ok(services) => services,
        Err(error) => {
            tracing::error!(error = %Failed::System(error), "the gateway did not start");
            return FAILED;
        }
    };
    tracing::info!("loading");
    let loading = move || {
        let first = reload::first(&config, &metrics);
        (config, metrics, first)
    };
    let Some((config, metrics, first)) = services.unless_stopped(loading) else {
        tracing::info!("told to stop before anything was served");
        services.leave();
        return DRAINED;
    };
    let first = match first {
        Ok(first) => first,
        Err((refused, why)) => {
            // People read it as `check` shows it, programs as one line.
            if !logs_json {
                show(&refused.sources, &refused.diags);
            }
            let diagnostics = logs_json.then_some(refused.text);
            tracing::error!(
                why,
                diagnostics,
                "nothing valid to serve; `gatewright check` and `gatewright test` show the same"
            );
            return INVALID;
        }
    };
    first.set.warn();
    match Process::start(services, config, metrics, first) {
        Ok(process) => process.serve(),
        Err(error) => {
            tracing::error!(%error, "the gateway did not start");
            FAILED
        }
    }
}

/// The process's own log goes to standard error: standard output belongs to the records. Whether its lines are JSON.
fn start_log(log: Log) -> bool {
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from_level(log.level))
        .with_writer(std::io::stderr)
        // What tells of a line that cannot be written would be written there too, and panics.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // It fails only where a log was started before, and then that one is used.
    let _ = match json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.try_init(),
    };
    json
}
