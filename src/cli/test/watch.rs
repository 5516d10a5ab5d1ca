//! `gatewright test --watch`: runs again whenever the files change, until it is interrupted or its input ends.

use std::io::Read;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{TestArguments, folders, once};
use crate::cli::FAILED;
use crate::config;
use crate::reload::Follow;

/// Runs and waits in turns. The exit code is that of the last run.
pub(super) fn watch(arguments: &TestArguments) -> u8 {
    match begin(arguments) {
        Ok(mut watching) => loop {
            let code = once(arguments);
            if !watching.wait() {
                return code;
            }
        },
        Err(error) => {
            eprintln!("the files cannot be watched: {error}");
            FAILED
        }
    }
}

struct Watching {
    runtime: Runtime,
    follow: Follow,
    interrupt: Signal,
    input: oneshot::Receiver<()>,
}

fn begin(arguments: &TestArguments) -> std::io::Result<Watching> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Without a configuration that loads its defaults say what to watch until it does.
    let config = config::load(arguments.config.config.as_deref()).config.unwrap_or_default();
    let (folders, quiet) = (folders(arguments, &config), config.reload.settle);
    let follow = runtime.block_on(Follow::new(folders, quiet));
    let interrupt = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    Ok(Watching { runtime, follow, interrupt, input: end_of_input()? })
}

impl Watching {
    /// Waits for a change; `false` where it is time to end.
    fn wait(&mut self) -> bool {
        let Watching { runtime, follow, interrupt, input } = self;
        runtime.block_on(async {
            tokio::select! {
                () = follow.changed() => true,
                _ = interrupt.recv() => false,
                _ = input => false,
            }
        })
    }
}

/// Tells when standard input is closed. What comes in before is thrown away.
fn end_of_input() -> std::io::Result<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    let read = move || {
        let mut input = std::io::stdin().lock();
        let mut bytes = [0; 1024];
        while matches!(input.read(&mut bytes), Ok(1..)) {}
        let _ = done.send(()); // whoever waited may have left
    };
    std::thread::Builder::new().name("input".into()).spawn(read)?;
    Ok(ended)
}
