//! A mistake in a file, and the list of all mistakes of a load.

use super::{FileId, Sources, Span};

/// Diagnostics beyond this many are counted but not kept.
pub const DIAGNOSTICS_MAX: usize = 1000;

/// Whether a diagnostic keeps the files from being used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The files cannot be used.
    Error,
    /// They can, but probably do not mean what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One mistake: what is wrong, where, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Stable symbolic code such as `policy.unknown_key`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was expected and what came, in one sentence without a full stop.
    pub message: String,
    /// What to underline; `None` if no text is at fault.
    pub span: Option<Span>,
    /// A few words beside the underline; may be empty.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
    /// Other places that matter, such as the first of two equal keys.
    pub notes: Vec<(Span, String)>,
}

impl Diagnostic {
    /// An error. `span` is a [`Span`] or `None`; [`Span::NOWHERE`] counts as none.
    pub fn error(code: &'static str, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span.into(), message.into())
    }

    /// A warning; see [`Diagnostic::error`].
    pub fn warning(code: &'static str, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span.into(), message.into())
    }

    fn new(severity: Severity, code: &'static str, span: Option<Span>, message: String) -> Self {
        Self {
            code,
            severity,
            message,
            span: span.filter(|span| !span.is_nowhere()),
            label: String::new(),
            help: None,
            notes: Vec::new(),
        }
    }

    /// Sets the words beside the underline.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place that matters.
    #[must_use]
    pub fn with_note(mut self, span: Span, text: impl Into<String>) -> Self {
        if !span.is_nowhere() {
            self.notes.push((span, text.into()));
        }
        self
    }
}

/// All mistakes of a load, at most [`DIAGNOSTICS_MAX`] of them in full.
#[derive(Clone, Default, Debug)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    /// How many of `kept` are warnings, so that a full list of errors is not searched for one.
    kept_warnings: usize,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. Past [`DIAGNOSTICS_MAX`] it is only counted, but an error still displaces a warning.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let is_error = diagnostic.severity == Severity::Error;
        if is_error {
            self.errors += 1;
        } else {
            self.warnings += 1;
        }
        if self.kept.len() < DIAGNOSTICS_MAX {
            self.kept.push(diagnostic);
            self.kept_warnings += usize::from(!is_error);
        } else if is_error && self.kept_warnings > 0 {
            let warning = |kept: &Diagnostic| kept.severity == Severity::Warning;
            if let Some(place) = self.kept.iter().rposition(warning) {
                self.kept.remove(place);
                self.kept.push(diagnostic);
                self.kept_warnings -= 1;
            }
        }
    }

    /// Adds all of `others`.
    pub fn append(&mut self, others: Diagnostics) {
        let (errors, warnings) = (self.errors + others.errors, self.warnings + others.warnings);
        for diagnostic in others.kept {
            self.push(diagnostic);
        }
        // What the other list had already dropped counts too.
        (self.errors, self.warnings) = (errors, warnings);
    }

    /// Adds those of `others` that are not here yet.
    pub fn append_new(&mut self, others: Diagnostics) {
        for diagnostic in others.kept {
            if !self.kept.contains(&diagnostic) {
                self.push(diagnostic);
            }
        }
    }

    /// Keeps only some.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        let count = |kept: &[Diagnostic]| {
            let warnings = kept.iter().filter(|one| one.severity == Severity::Warning).count();
            (kept.len() - warnings, warnings)
        };
        let (errors, warnings) = count(&self.kept);
        self.kept.retain(keep);
        let (errors_kept, warnings_kept) = count(&self.kept);
        self.errors -= errors - errors_kept;
        self.warnings -= warnings - warnings_kept;
        self.kept_warnings = warnings_kept;
    }

    /// The same, where the one file that all of them are about is known by another number.
    #[must_use]
    pub fn moved_to(mut self, file: FileId) -> Self {
        for one in &mut self.kept {
            for span in one.span.iter_mut().chain(one.notes.iter_mut().map(|(span, _)| span)) {
                span.file = file;
            }
        }
        self
    }

    /// Removes what was said before: steps of defaults are checked in every service that they reach.
    pub fn deduplicate(&mut self) {
        let mut said = std::collections::HashSet::new();
        self.retain(|one| said.insert((one.code, one.span, one.message.clone())));
    }

    /// Whether anything keeps the files from being used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.errors + self.warnings == 0
    }

    /// The number of errors, dropped ones included.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// The number of warnings, dropped ones included.
    pub fn warning_count(&self) -> usize {
        self.warnings
    }

    /// How many were counted but not kept.
    pub fn dropped(&self) -> usize {
        self.errors + self.warnings - self.kept.len()
    }

    /// The kept ones as [`Diagnostics::iter`] gives them, files in the order of these sources.
    pub(super) fn in_order(&self, sources: &Sources) -> impl Iterator<Item = &Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.kept.iter().collect();
        let rank = |d: &Diagnostic| d.span.map(|span| (sources.rank(span.file), span));
        sorted.sort_by_key(|d| (d.span.is_none(), rank(d), d.severity));
        sorted.into_iter()
    }

    /// The kept ones by file (in the order in which files were added) and position; those without a
    /// position last.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.kept.iter().collect();
        sorted.sort_by_key(|d| (d.span.is_none(), d.span, d.severity));
        sorted.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_bounded_number_and_counts_the_rest() {
        let mut diags = Diagnostics::new();
        for _ in 0..DIAGNOSTICS_MAX + 5 {
            diags.push(Diagnostic::warning("a.b", None, "w"));
        }
        assert!(!diags.has_errors());
        diags.push(Diagnostic::error("a.c", None, "e"));
        assert_eq!(diags.iter().count(), DIAGNOSTICS_MAX);
        assert_eq!(diags.dropped(), 6);
        assert_eq!((diags.error_count(), diags.warning_count()), (1, 1005));
        assert!(diags.iter().any(|kept| kept.code == "a.c"));

        let mut all = Diagnostics::new();
        all.append(diags);
        assert_eq!((all.error_count(), all.dropped()), (1, 6));
    }

    #[test]
    fn what_was_said_before_is_neither_shown_nor_counted() {
        let mut diags = Diagnostics::new();
        for _ in 0..3 {
            diags.push(Diagnostic::error("a.b", None, "e"));
            diags.push(Diagnostic::warning("a.c", None, "w"));
        }
        diags.deduplicate();
        assert_eq!((diags.iter().count(), diags.dropped()), (2, 0));
        assert_eq!((diags.error_count(), diags.warning_count()), (1, 1));
        // Those that were never kept may be others.
        for count in 0..DIAGNOSTICS_MAX {
            diags.push(Diagnostic::error("a.d", None, format!("{}", count / 2)));
        }
        assert_eq!((diags.error_count(), diags.warning_count(), diags.dropped()), (DIAGNOSTICS_MAX + 1, 1, 2));
        diags.deduplicate();
        assert_eq!((diags.iter().count(), diags.dropped()), (DIAGNOSTICS_MAX / 2 + 1, 2));
    }

    #[test]
    fn sorts_by_file_and_position() {
        let mut sources = super::super::Sources::new();
        let (first, second) = (sources.add("a", "x"), sources.add("b", "y"));
        let at = |file, start| Span { file, start, end: start };
        let mut diags = Diagnostics::new();
        diags.push(Diagnostic::error("n", None, ""));
        diags.push(Diagnostic::error("c", at(second, 0), ""));
        diags.push(Diagnostic::error("b", at(first, 7), ""));
        diags.push(Diagnostic::error("a", at(first, 2), ""));
        diags.push(Diagnostic::error("n", Span::NOWHERE, ""));
        let codes: Vec<_> = diags.iter().map(|d| d.code).collect();
        assert_eq!(codes, ["a", "b", "c", "n", "n"]);
    }
}
