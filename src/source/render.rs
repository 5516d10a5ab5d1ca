//! Diagnostics for people (source line underlined, in the manner of rustc) and for programs (JSON).

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

use super::{Diagnostic, Diagnostics, FileId, Severity, Sources, Span};

/// A note at most this many lines away is shown in the same cut of the file.
const NEAR_LINES_MAX: usize = 40;
/// Of longer lines only this many bytes on each side of the underline are shown.
const LINE_CONTEXT_BYTES_MAX: usize = 200;
/// Lines shown above and below an underlined one.
const CONTEXT_LINES: usize = 1;

/// All diagnostics as text, and a last line with their numbers. Empty if there are none.
pub fn render(sources: &Sources, diags: &Diagnostics, color: bool) -> String {
    if diags.is_empty() {
        return String::new();
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diags.in_order(sources) {
        text.push_str(&renderer.render(&[group(sources, diagnostic)]));
        text.push_str("\n\n");
    }
    text.push_str(&summary(diags));
    text.push('\n');
    text
}

/// All diagnostics as an array of objects: `file`, `line`, `column`, `end_line`, `end_column` (from 1;
/// null without a position), `code`, `severity`, `message`, `label`, `help`, `notes`.
pub fn to_json(sources: &Sources, diags: &Diagnostics) -> serde_json::Value {
    diags
        .in_order(sources)
        .map(|diagnostic| {
            let start = diagnostic.span.map(|span| sources.place(span));
            let end = diagnostic.span.map(|span| sources.end_place(span));
            let note = |(span, text): &(Span, String)| {
                let place = sources.place(*span);
                json!({ "file": place.file, "line": place.line, "column": place.column, "message": text })
            };
            json!({
                "file": start.map(|place| place.file),
                "line": start.map(|place| place.line),
                "column": start.map(|place| place.column),
                "end_line": end.map(|place| place.line),
                "end_column": end.map(|place| place.column),
                "code": diagnostic.code,
                "severity": diagnostic.severity.as_str(),
                "message": diagnostic.message,
                "label": diagnostic.label,
                "help": diagnostic.help,
                "notes": diagnostic.notes.iter().map(note).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// `2 errors, 1 warning`, and how many of them are not shown.
fn summary(diags: &Diagnostics) -> String {
    let count = |number: usize, word: &str| {
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {word}{plural}"))
    };
    let counts = [count(diags.error_count(), "error"), count(diags.warning_count(), "warning")];
    let mut text = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if diags.dropped() > 0 {
        text.push_str(&format!(" ({} of them not shown)", diags.dropped()));
    }
    text
}

fn group<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()).id(diagnostic.code));
    let mut far_notes = Vec::new();
    if let Some(span) = diagnostic.span {
        let mut shown = vec![(span, diagnostic.label.as_str(), AnnotationKind::Primary)];
        for (note, text) in &diagnostic.notes {
            if is_near(sources, span, *note) {
                shown.push((*note, text, AnnotationKind::Context));
            } else {
                far_notes.push((*note, text.as_str(), AnnotationKind::Context));
            }
        }
        group = with_cut(group, sources, span.file, &shown);
    }
    for note in far_notes {
        group = with_cut(group, sources, note.0.file, &[note]);
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

fn is_near(sources: &Sources, span: Span, note: Span) -> bool {
    let lines = (sources.place(span).line, sources.place(note).line);
    span.file == note.file && lines.0.abs_diff(lines.1) <= NEAR_LINES_MAX
}

/// Adds the lines around some spans of one file, with the spans underlined. Only these lines are
/// handed to the renderer, which otherwise walks the whole file for each diagnostic.
fn with_cut<'a>(
    group: Group<'a>,
    sources: &'a Sources,
    file: FileId,
    shown: &[(Span, &'a str, AnnotationKind)],
) -> Group<'a> {
    let lines = shown.iter().map(|(span, ..)| sources.place(*span).line);
    let (first, last) = lines.fold((usize::MAX, 0), |(min, max), line| (min.min(line), max.max(line)));
    let first = first.saturating_sub(CONTEXT_LINES).max(1);
    let text = sources.text(file);
    let start = sources.line_start(file, first);
    let end = sources.line_start(file, last.saturating_add(1 + CONTEXT_LINES));
    let cut = text.get(start..end).unwrap_or("");
    if cut.is_empty() || cut.len() > (last - first + 3) * LINE_CONTEXT_BYTES_MAX * 2 {
        return with_narrow_cuts(group, sources, shown);
    }
    let annotations = shown.iter().map(|(span, label, kind)| underline(cut, start, *span, label, *kind));
    group.element(Snippet::source(cut).line_start(first).path(sources.name(file)).annotations(annotations))
}

/// For files with very long lines: the place, and of the line only what is near the underline.
fn with_narrow_cuts<'a>(
    mut group: Group<'a>,
    sources: &'a Sources,
    shown: &[(Span, &'a str, AnnotationKind)],
) -> Group<'a> {
    for (span, label, kind) in shown {
        let place = sources.place(*span);
        group = group.element(Origin::path(place.file).line(place.line).char_column(place.column));
        let text = sources.text(span.file);
        let line_start = sources.line_start(span.file, place.line);
        let line_end = sources.line_start(span.file, place.line + 1);
        let from = (span.start as usize).saturating_sub(LINE_CONTEXT_BYTES_MAX);
        let start = text.ceil_char_boundary(from.max(line_start));
        let to = (span.start as usize).saturating_add(LINE_CONTEXT_BYTES_MAX);
        let end = text.floor_char_boundary(to.min(line_end));
        let cut = text.get(start..end).unwrap_or("");
        if !cut.is_empty() {
            let annotation = underline(cut, start, *span, label, *kind);
            group = group.element(Snippet::source(cut).line_start(place.line).annotation(annotation));
        }
    }
    group
}

/// Underlines the first line of a span within a cut that begins at byte `cut_start` of its file.
fn underline<'a>(cut: &str, cut_start: usize, span: Span, label: &'a str, kind: AnnotationKind) -> Annotation<'a> {
    let at = |offset: u32| (offset as usize).saturating_sub(cut_start).min(cut.len());
    let start = at(span.start);
    let line = cut.get(start..).unwrap_or("");
    let line = line.split(['\n', '\r']).next().unwrap_or("");
    let end = at(span.end).clamp(start, start + line.len());
    let annotation = kind.span(start..end);
    if label.is_empty() { annotation } else { annotation.label(label) }
}
