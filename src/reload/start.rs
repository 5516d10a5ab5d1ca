//! What a process begins with: its files, or where those may not serve the last good set of them.

use std::sync::Arc;

use jiff::Timestamp;

use super::kept::{Kept, Shelf};
use super::load::{Refused, Set, Tests, load};
use super::status::Status;
use crate::audit::metrics::Metrics;
use crate::config::Config;
use crate::policy::build::Environment;
use crate::policy::files::Files;
use crate::policy::reuse::Reuse;

/// The set that a process begins with.
pub struct First {
    pub set: Set,
    /// The files as they were read: to be kept, where they serve.
    pub(super) files: Arc<Files>,
    /// Why they do not serve, where the last good set does instead.
    pub(super) refused: Option<Box<Refused>>,
    /// For the next load.
    pub(super) reuse: Reuse,
}

impl First {
    /// How the process has started.
    pub fn status(&self, at: Timestamp) -> Status {
        match &self.refused {
            None => Status::started(&self.set.snapshot.version, at, self.set.diagnostics.clone()),
            Some(refused) => Status::started_kept(self.files.version(), at, refused.diagnostics.clone()),
        }
    }
}

/// Loads the files of a configuration, or else the set that was kept. The error says why the files may not
/// serve, and why nothing else does.
pub fn first(config: &Config, metrics: &Metrics) -> Result<First, (Box<Refused>, String)> {
    config.keep_own_keys();
    let folders = config.folders();
    let files = Arc::new(Files::read(&folders));
    let environment = config.environment();
    let shelf = Shelf::of(config);
    let kept = shelf.read();
    let tests = match config.tests.on_reload {
        true => Tests::Run(config.tests.budget),
        false => Tests::Skip,
    };
    let mut reuse = Reuse::default();
    let refused = match load(&files, &environment, Some(metrics), tests, &mut reuse) {
        Ok(set) => {
            let had = kept.as_ref().map(Option::as_ref);
            match had.map(|kept| services(&set, kept, &environment, metrics)) {
                Ok(Some(lost)) => Box::new(Refused::emptied(lost)),
                Ok(None) => return Ok(First { set, files, refused: None, reuse }),
                Err(why) => {
                    tracing::warn!(why, "the last good set cannot be used; a new one is kept");
                    return Ok(First { set, files, refused: None, reuse });
                }
            }
        }
        Err(refused) => refused,
    };
    let kept = match kept {
        Ok(Some(kept)) => kept,
        Ok(None) => return Err((refused, "no last good set is kept".to_owned())),
        Err(why) => return Err((refused, format!("the last good set cannot be used: {why}"))),
    };
    match load_kept(&kept, environment, metrics) {
        Ok(set) => {
            tracing::error!(
                serving = kept.about.version,
                by = kept.about.gatewright,
                errors = refused.errors,
                diagnostics = refused.text,
                "the files do not load: the last good set serves"
            );
            Ok(First { set, files, refused: Some(refused), reuse })
        }
        Err(mistakes) => {
            Err((refused, format!("the last good set does not load with this configuration:\n{}", mistakes.text)))
        }
    }
}

/// How many services a kept set has, where the files have none at all any more.
fn services(set: &Set, kept: Option<&Kept>, environment: &Environment, metrics: &Metrics) -> Option<usize> {
    if !set.snapshot.services.is_empty() {
        return None;
    }
    let kept = load_kept(kept?, environment.clone(), metrics).ok()?;
    Some(kept.snapshot.services.len()).filter(|services| *services > 0)
}

fn load_kept(kept: &Kept, mut environment: Environment, metrics: &Metrics) -> Result<Set, Box<Refused>> {
    environment.values.kept = kept.outside.clone();
    load(&kept.files, &environment, Some(metrics), Tests::Skip, &mut Reuse::default())
}
