//! Changed files become a new snapshot while traffic flows: watch → settle → read → compile → test → swap.
//!
//! The whole file set is one unit: any error keeps the snapshot that serves, and says so in the log, the
//! numbers and the admin interface. It restarts nothing and never looks at what requests do.

mod follow;
pub mod kept;
mod load;
mod settle;
mod start;
mod status;
mod watch;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior};

pub use follow::Follow;
pub use load::{Document, Refused, Set, Tests, load};
pub use start::{First, first};
pub use status::{Outcome, Report, Status};

use crate::clock::Clock;
use crate::compile::outside::OutsideFile;
use crate::config::Config;
use crate::engine::worker::Shared;
use crate::policy::build::Environment;
use crate::policy::files::{Files, Folder, Listing};
use crate::policy::reuse::Reuse;
use kept::Shelf;
use settle::Unrest;
use watch::Watch;

/// Requests for a reload that may wait; they are all answered by the next one.
const ASKS_MAX: usize = 16;
const FAILING_HELP: &str = "1 while the files on disk are not what serves.";
const KEPT_HELP: &str = "1 while the last good set serves because the files could not be loaded at the start.";

/// Somebody who wants a reload now, and hears how it went.
pub type Ask = oneshot::Sender<Report>;

/// The sending end for whoever wants a reload now.
#[derive(Clone)]
pub struct Asking(mpsc::Sender<Ask>);

impl Asking {
    /// Reloads, also where the files have not changed: what they point at (users, secrets) may have.
    /// `None` when the reloader has ended or too many wait already.
    pub async fn reload(&self) -> Option<Report> {
        let (done, answer) = oneshot::channel();
        self.0.try_send(done).ok()?;
        answer.await.ok()
    }
}

/// The one task that swaps snapshots.
pub struct Reloader {
    folders: Vec<Folder>,
    config: Config,
    environment: Arc<Environment>,
    shared: Arc<Shared>,
    status: Arc<Status>,
    asks: mpsc::Receiver<Ask>,
    changed: Arc<Notify>,
    watch: Watch,
    /// What the folders held when they were last read.
    listing: Listing,
    files: Arc<Files>,
    reuse: Reuse,
    documents: Vec<Document>,
    /// What a set that was refused is [known by](known_by); it is not tried again by itself.
    refused: Option<String>,
    config_digest: Option<[u8; 32]>,
    shelf: Shelf,
    /// Serves and is to be kept.
    to_keep: Option<ToKeep>,
}

/// A set that serves and is not on disk yet.
struct ToKeep {
    files: Arc<Files>,
    outside: Vec<OutsideFile>,
}

impl Reloader {
    /// A reloader for what serves now: `first` is of the folders of `config`.
    pub fn new(config: Config, shared: Arc<Shared>, status: Arc<Status>, first: First) -> (Reloader, Asking) {
        let (asking, asks) = mpsc::channel(ASKS_MAX);
        let is_refused = first.refused.is_some();
        shared.metrics.set("gatewright_reload_failing", "gauge", FAILING_HELP, u64::from(is_refused));
        shared.metrics.set("gatewright_serving_last_good", "gauge", KEPT_HELP, u64::from(is_refused));
        let to_keep = (!is_refused).then(|| ToKeep { files: first.files.clone(), outside: first.set.outside });
        let shelf = Shelf::of(&config);
        let refused = is_refused.then(|| known_by(&first.files));
        let changed = Arc::new(Notify::new());
        let folders = config.folders().to_vec();
        let reloader = Reloader {
            watch: Watch::new(&folders, config.file.as_deref(), changed.clone()),
            environment: Arc::new(config.environment()),
            config_digest: config.digest(),
            folders,
            config,
            shared,
            status,
            asks,
            changed,
            shelf,
            to_keep,
            listing: first.files.listing.clone(),
            files: first.files,
            reuse: first.reuse,
            documents: first.set.documents,
            refused,
        };
        (reloader, Asking(asking))
    }

    /// Serves changes and asks for ever.
    pub async fn run(mut self) {
        // Files may have changed between the first read and the first watch.
        if list(&self.folders).await != self.listing {
            self.changed.notify_one();
        }
        let mut poll = self.config.reload.poll.map(|every| {
            let mut poll = tokio::time::interval_at(Instant::now() + every, every);
            poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
            poll
        });
        let changed = self.changed.clone();
        self.keep().await;
        loop {
            let mut asks = Vec::new();
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => asks.push(ask),
                    None => return,
                },
                () = changed.notified() => {}
                () = next_tick(&mut poll) => {
                    self.look_at_config();
                    if list(&self.folders).await == self.listing {
                        continue;
                    }
                }
            }
            self.look_at_config();
            while let Ok(ask) = self.asks.try_recv() {
                asks.push(ask);
            }
            let report = self.reload(!asks.is_empty()).await;
            for ask in asks {
                // Whoever asked may have left.
                let _ = ask.send(report.clone());
            }
            self.keep().await;
        }
    }

    /// One reload, from settled files to a swap or a refusal.
    async fn reload(&mut self, asked: bool) -> Report {
        let mut unrest = Unrest::new(self.config.reload.settle);
        loop {
            let files = self.settled_files().await;
            if let Some(report) = self.judge(files, asked).await {
                return report;
            }
            tokio::time::sleep(unrest.pause()).await;
        }
    }

    /// Serves a set of files that was read, or refuses it. `None` when the folders have changed since: then
    /// nothing happens.
    async fn judge(&mut self, files: Arc<Files>, asked: bool) -> Option<Report> {
        let version = files.version();
        let serving = self.shared.current().version.clone();
        let is_refused = self.refused.as_deref() == Some(version);
        // What a kept set brought with it is not what stands in the folders now.
        let is_serving = *serving == *version && !self.status.serves_kept();
        if !asked && files.problems.is_empty() && (is_serving || is_refused) {
            if !is_refused && self.refused.take().is_some() {
                tracing::info!(version, "the files are again those that serve");
            }
            let outcome = if is_refused { Outcome::StillRefused } else { Outcome::Unchanged };
            return Some(self.note(outcome, version, None));
        }
        // Whether the files were at rest while they were read is looked at while they are compiled.
        let folders = self.folders.clone();
        let (compiled, after) = tokio::join!(self.compile(files.clone()), list(&folders));
        if after != self.listing || self.watch.renew(&folders) {
            return None;
        }
        Some(match compiled {
            Ok(Ok(set)) if set.snapshot.services.is_empty() && !self.shared.current().services.is_empty() => {
                self.refuse(&files, Refused::emptied(self.shared.current().services.len()))
            }
            Ok(Ok(set)) => self.take(set, files),
            Ok(Err(refused)) => self.refuse(&files, *refused),
            Err(panic) => {
                let text = format!("compiling the files failed inside the gateway: {panic}");
                self.refuse(&files, Refused::inside(text))
            }
        })
    }

    async fn compile(&mut self, files: Arc<Files>) -> Result<Result<Set, Box<Refused>>, JoinError> {
        let (environment, shared) = (self.environment.clone(), self.shared.clone());
        let tests = if self.config.tests.on_reload { Tests::Run(self.config.tests.budget) } else { Tests::Skip };
        // Should compiling panic, the next load begins with nothing.
        let mut reuse = std::mem::take(&mut self.reuse);
        let compiling = tokio::task::spawn_blocking(move || {
            (load(&files, &environment, Some(&shared.metrics), tests, &mut reuse), reuse)
        });
        let (loaded, reuse) = compiling.await?;
        self.reuse = reuse;
        Ok(loaded)
    }

    fn take(&mut self, set: Set, files: Arc<Files>) -> Report {
        let (old, new) = (self.shared.current().version.clone(), set.snapshot.version.clone());
        self.shared.swap(set.snapshot.clone());
        set.warn();
        for gone in vanished(&self.documents, &set) {
            let (kind, name, file) = (gone.kind, gone.name.as_str(), &*gone.file);
            tracing::warn!(kind, name, file, "this document has vanished although its file stays");
        }
        self.documents = set.documents;
        self.to_keep = Some(ToKeep { files, outside: set.outside });
        self.refused = None;
        let report = self.note(Outcome::Swapped, &new, Some(set.diagnostics));
        tracing::info!(from = %old, to = %new, services = set.snapshot.services.len(), "reloaded");
        report
    }

    fn refuse(&mut self, files: &Files, refused: Refused) -> Report {
        let version = files.version();
        let serving = self.shared.current().version.clone();
        self.refused = Some(known_by(files));
        // Whoever reads the line finds the rest as it says.
        let report = self.note(Outcome::Refused, version, Some(refused.diagnostics));
        tracing::error!(
            version, %serving, errors = refused.errors, diagnostics = refused.text,
            "the changed files are not taken; the old ones serve on"
        );
        report
    }

    fn note(&self, outcome: Outcome, version: &str, diagnostics: Option<serde_json::Value>) -> Report {
        let metrics = &self.shared.metrics;
        if outcome != Outcome::StillRefused {
            let help = "Reloads of the policy files by their result.";
            metrics.add_labelled("gatewright_reloads_total", help, ("result", outcome.word()), 1);
        }
        metrics.set("gatewright_reload_failing", "gauge", FAILING_HELP, u64::from(self.refused.is_some()));
        let report = self.status.note(outcome, version, Clock::system().wall(), diagnostics);
        metrics.set("gatewright_serving_last_good", "gauge", KEPT_HELP, u64::from(self.status.serves_kept()));
        report
    }

    /// Puts what serves on disk, for a restart that finds the files broken.
    async fn keep(&mut self) {
        let Some(set) = self.to_keep.take() else { return };
        let shelf = self.shelf.clone();
        let writing = tokio::task::spawn_blocking(move || shelf.write(&set.files, &set.outside));
        match writing.await.map_err(|panic| panic.to_string()).flatten() {
            Ok(()) => tracing::info!("the set is kept for a restart"),
            Err(why) => tracing::warn!(why, "the set is not kept: a restart with broken files would find an older one"),
        }
    }

    /// Reads the files once they have come to rest.
    async fn settled_files(&mut self) -> Arc<Files> {
        loop {
            self.watch.renew(&self.folders);
            let before = settle::quiet(&self.folders, self.config.reload.settle, &self.changed).await;
            let (folders, known) = (self.folders.clone(), self.files.clone());
            let reading = tokio::task::spawn_blocking(move || Files::read_again(&folders, &known));
            if let Ok(files) = reading.await
                && files.listing == before
            {
                self.listing = before;
                self.files = Arc::new(files);
                return self.files.clone();
            }
        }
    }

    /// gateway.yaml itself needs a restart: say so once for each change.
    fn look_at_config(&mut self) {
        // One that cannot be read just now (too many open files, half a rename) has not changed by that.
        let digest = self.config.digest();
        if digest.is_some() && digest != self.config_digest {
            self.config_digest = digest;
            let file = self.config.file.clone().unwrap_or_else(|| PathBuf::from(crate::config::FILE_NAME));
            tracing::warn!(file = %file.display(), "the configuration has changed: it needs a restart to take effect");
        }
    }
}

/// The version of a set; nothing where something of it could not be read, which no version tells of: the same files
/// without that are another set.
fn known_by(files: &Files) -> String {
    if files.problems.is_empty() { files.version().to_owned() } else { String::new() }
}

/// Documents that serve and that the new set no longer has, while their file is still there.
fn vanished<'d>(old: &'d [Document], set: &'d Set) -> impl Iterator<Item = &'d Document> {
    let here: HashSet<(&str, &str)> = set.documents.iter().map(|doc| (doc.kind, doc.name.as_str())).collect();
    old.iter().filter(move |old| !here.contains(&(old.kind, &*old.name)) && set.files.contains(&old.file))
}

async fn next_tick(poll: &mut Option<tokio::time::Interval>) {
    match poll {
        Some(poll) => {
            poll.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Lists the folders off the runtime's threads: a slow file system holds up nothing else.
async fn list(folders: &[Folder]) -> Listing {
    let folders = folders.to_vec();
    tokio::task::spawn_blocking(move || Files::listing(&folders)).await.unwrap_or_default()
}
