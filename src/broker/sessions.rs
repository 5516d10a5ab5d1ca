//! All sessions of a process. Sets of files that are loaded one after the other share what they keep.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::mpsc;

use super::state::{Standing, State};
use super::{Session, Settings, file};

/// All sessions of a process.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Where files are that no document names.
    folder: OnceLock<PathBuf>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    states: HashMap<PathBuf, Weak<State>>,
    sessions: Vec<Weak<Session>>,
    /// Whoever renews; without it nothing is.
    renewer: Option<mpsc::UnboundedSender<Weak<Session>>>,
}

impl Sessions {
    /// Keeps files that no document names below this folder from now on.
    pub fn keep_in(&self, folder: PathBuf) {
        // Who says it a second time says the same.
        let _ = self.folder.set(folder);
    }

    /// Where the tokens of a session are whose document does not say.
    pub fn usual_file(&self, name: &str) -> PathBuf {
        self.folder.get().map_or(Path::new("state/sessions"), PathBuf::as_path).join(format!("{name}.json"))
    }

    /// A session. What is known of its file stays: its tokens, and a refresh that is under way.
    pub fn add(&self, settings: Settings) -> Arc<Session> {
        let mut all = self.all();
        all.states.retain(|_, state| state.strong_count() > 0);
        all.sessions.retain(|session| session.strong_count() > 0);
        let path = settings.file.clone();
        let state = all.states.get(&path).and_then(Weak::upgrade).unwrap_or_else(|| {
            let state = Arc::new(State::new(path.clone(), file::read(&path)));
            all.states.insert(path, Arc::downgrade(&state));
            state
        });
        let session = Arc::new(Session::kept(settings, state));
        all.sessions.push(Arc::downgrade(&session));
        if let Some(renewer) = &all.renewer {
            // It ends with the process, and then nobody needs tokens.
            let _ = renewer.send(Arc::downgrade(&session));
        }
        session
    }

    /// From now on sessions are handed to this one, those that there are already too.
    pub fn renew_with(&self, renewer: mpsc::UnboundedSender<Weak<Session>>) {
        let mut all = self.all();
        for session in &all.sessions {
            let _ = renewer.send(session.clone());
        }
        all.renewer = Some(renewer);
    }

    /// How all sessions stand that somebody needs, by name.
    pub fn standings(&self, now_unix_s: i64) -> Vec<(Arc<str>, Standing)> {
        let all: Vec<Arc<Session>> = self.all().sessions.iter().filter_map(Weak::upgrade).collect();
        let standing = |session: &Arc<Session>| {
            let state = session.kept_state()?;
            Some((session.settings.name.clone(), state.standing(now_unix_s)))
        };
        let mut standings: Vec<_> = all.iter().filter_map(standing).collect();
        standings.sort_by(|one, other| one.0.cmp(&other.0));
        standings.dedup_by(|one, other| one.0 == other.0);
        standings
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::request::tests::settings;

    #[test]
    fn a_document_that_changes_keeps_what_is_known_of_its_file() {
        let sessions = Sessions::default();
        let (handed, mut told) = mpsc::unbounded_channel();
        let first = sessions.add(settings());
        sessions.renew_with(handed);
        let second = sessions.add(Settings { lifetime: std::time::Duration::from_secs(1), ..settings() });
        let other = sessions.add(Settings { file: "other.json".into(), ..settings() });
        let state = |session: &Session| session.kept_state().unwrap().clone();
        assert!(Arc::ptr_eq(&state(&first), &state(&second)) && !Arc::ptr_eq(&state(&first), &state(&other)));
        let handed = std::iter::from_fn(|| told.try_recv().ok()).filter(|session| session.strong_count() > 0);
        assert_eq!(handed.count(), 3);
        drop((first, second, other));
        assert!(sessions.standings(0).is_empty());
    }
}
