//! The services runtime and the signals it waits for: what a process has before anything else, so that no signal
//! finds it without ears.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reload::Asking;

/// Threads of the services runtime.
const THREADS: usize = 2;

/// Where whatever needs a general runtime is done, and what the operator tells the process.
pub struct Services {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

impl Services {
    /// From here on no signal ends the process by itself.
    pub fn begin() -> io::Result<Services> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("services").enable_all().build()?;
        let signals = runtime.block_on(async { Signals::listen() })?;
        Ok(Services { runtime, signals })
    }

    /// Does work that may take long; `None` when the process was told to stop meanwhile, and the work is left to
    /// itself. A SIGHUP meanwhile is kept.
    pub fn unless_stopped<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let Services { runtime, signals } = self;
        let work = runtime.spawn_blocking(work);
        let done = runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = signals.stop() => None,
            }
        })?;
        // It is never cancelled: it has ended, or panicked.
        Some(done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())))
    }

    /// Ends without waiting for what still runs there.
    pub fn leave(self) {
        self.runtime.shutdown_background();
    }
}

/// What the operator tells the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Must be called inside a runtime.
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next word to stop.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The same, and reloads at each SIGHUP meanwhile. How that went stands in the log.
    pub(super) async fn stop_or_reload(&mut self, asking: &Asking) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    let asking = asking.clone();
                    tokio::spawn(async move { asking.reload().await });
                }
            }
        }
    }
}
