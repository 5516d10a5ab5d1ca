//! How the last reload went, for the admin interface.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value as Json, json};

/// What a reload came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The set that the process started with.
    Started,
    /// The new set serves.
    Swapped,
    /// The files are those that serve.
    Unchanged,
    /// The new set has errors or failed its tests; the old one serves on.
    Refused,
    /// The files are still those that were refused before.
    StillRefused,
}

impl Outcome {
    /// The word of the admin interface and of the metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Started => "started",
            Outcome::Swapped => "swapped",
            Outcome::Unchanged => "unchanged",
            Outcome::Refused | Outcome::StillRefused => "refused",
        }
    }

    /// Whether the files on disk are what serves.
    pub fn is_refused(self) -> bool {
        matches!(self, Outcome::Refused | Outcome::StillRefused)
    }
}

/// One reload.
#[derive(Clone, Debug)]
pub struct Report {
    pub outcome: Outcome,
    /// Version of the files that were read.
    pub version: String,
    pub at: Timestamp,
    /// An array of diagnostics.
    pub diagnostics: Json,
}

impl Report {
    /// As the admin interface shows it.
    pub fn to_json(&self) -> Json {
        json!({
            "result": self.outcome.word(),
            "version": self.version,
            "at": self.at.to_string(),
            "diagnostics": self.diagnostics,
        })
    }
}

/// The last reload and the last swap.
#[derive(Debug)]
pub struct Status(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    last: Report,
    /// The last one that was refused, also where the files are good again.
    last_refused: Option<Report>,
    loaded_at: Timestamp,
    /// What serves is the set that was kept, because the files could not be loaded at the start.
    serving_kept: bool,
}

impl Status {
    /// A process that has just started with a set of files.
    pub fn started(version: &str, at: Timestamp, diagnostics: Json) -> Status {
        let last = Report { outcome: Outcome::Started, version: version.to_owned(), at, diagnostics };
        Status(Mutex::new(Inner { last, last_refused: None, loaded_at: at, serving_kept: false }))
    }

    /// A process that has just started with the set that was kept: the files, of this version, were refused.
    pub fn started_kept(version: &str, at: Timestamp, diagnostics: Json) -> Status {
        let last = Report { outcome: Outcome::Refused, version: version.to_owned(), at, diagnostics };
        Status(Mutex::new(Inner { last_refused: Some(last.clone()), last, loaded_at: at, serving_kept: true }))
    }

    /// Keeps how a reload went. One that found nothing new to say keeps the diagnostics.
    pub(super) fn note(&self, outcome: Outcome, version: &str, at: Timestamp, diagnostics: Option<Json>) -> Report {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = || if outcome == Outcome::StillRefused { inner.last.diagnostics.clone() } else { json!([]) };
        let diagnostics = diagnostics.unwrap_or_else(kept);
        inner.last = Report { outcome, version: version.to_owned(), at, diagnostics };
        if outcome == Outcome::Refused {
            inner.last_refused = Some(inner.last.clone());
        }
        if outcome == Outcome::Swapped {
            inner.loaded_at = at;
            inner.serving_kept = false;
        }
        inner.last.clone()
    }

    /// How the last reload went.
    pub fn last(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// The last reload that was refused, also where the files are good again.
    pub fn last_refused(&self) -> Option<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_refused.clone()
    }

    /// Whether the last good set serves because the files could not be loaded at the start.
    pub fn serves_kept(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).serving_kept
    }

    /// When what serves began to serve.
    pub fn loaded_at(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).loaded_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_diagnostics_until_the_files_are_good_again() {
        let at = Timestamp::UNIX_EPOCH;
        let status = Status::started("a", at, json!([]));
        status.note(Outcome::Refused, "b", at, Some(json!([{ "code": "x" }])));
        let still = status.note(Outcome::StillRefused, "b", at, None);
        assert_eq!(still.diagnostics[0]["code"], "x");
        assert!(status.last().outcome.is_refused());
        status.note(Outcome::Unchanged, "a", at, None);
        assert_eq!(status.last().to_json()["diagnostics"], json!([]));
        assert_eq!(status.last_refused().unwrap().diagnostics[0]["code"], "x", "it can still be asked for");
    }
}
