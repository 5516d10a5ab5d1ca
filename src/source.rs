//! Files as text with positions: what turns YAML files into a tree in which every key and value knows
//! where it was written, that tree into typed values, and mistakes into diagnostics with the source
//! line underlined.
//!
//! The order of use: [`Sources::add`] a file, [`parse`] it to [`Node`]s, [`read`] values out of the
//! nodes, and at the end [`render`] (for people) or [`to_json`] (for programs) what [`Diagnostics`]
//! gathered. YAML is 1.2 core, without tags, anchors, aliases and merge keys.
//!
//! This room does not read the disk, does not know any key of the policy language, and does not
//! evaluate `${...}`; it depends on no other room.

mod alignment;
mod diagnostic;
mod node;
mod parse;
mod render;
mod suggest;
mod syntax_error;
mod typed;
pub mod units;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Severity};
pub use node::{Entry, Node, NodeValue, Scalar, ScalarStyle};
pub use parse::{DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX, parse};
pub use render::{render, to_json};
pub use suggest::{nearest, suggest};
pub use typed::values::{
    DurationValue, Entries, Expression, Literal, Name, OneOrMany, Rate, ScalarOr, Size, Spanned, Text,
};
pub use typed::{past_mistakes, read, read_remains};

/// One file of a [`Sources`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(u32);

/// A stretch of a file's text: byte offsets, `start` inclusive, `end` exclusive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
    /// The file that the offsets count in.
    pub file: FileId,
    /// The first byte.
    pub start: u32,
    /// The byte after the last one.
    pub end: u32,
}

impl Span {
    /// The place of what nobody wrote, such as a default value. Diagnostics there show no source.
    pub const NOWHERE: Span = Span { file: FileId(u32::MAX), start: 0, end: 0 };

    /// Whether this is [`Span::NOWHERE`].
    pub fn is_nowhere(self) -> bool {
        self.file == Span::NOWHERE.file
    }

    /// Whether a place lies inside, or is the same.
    pub fn contains(self, other: Span) -> bool {
        self.file == other.file && self.start <= other.start && other.end <= self.end
    }

    /// The stretch from the start of `self` to the end of `last`, which is in the same file.
    pub fn to(self, last: Span) -> Span {
        Span { file: self.file, start: self.start, end: last.end.max(self.start) }
    }
}

/// A position for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// The display path; empty for [`Span::NOWHERE`].
    pub file: &'a str,
    /// From 1; 0 for [`Span::NOWHERE`].
    pub line: usize,
    /// From 1, in characters; 0 for [`Span::NOWHERE`].
    pub column: usize,
}

/// The texts that spans point into. An id stays valid as long as the `Sources` lives.
#[derive(Clone, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    /// Where each file stands among all in messages; without it in the order of their numbers.
    ranks: Arc<[u32]>,
}

#[derive(Clone)]
struct SourceFile {
    name: Arc<str>,
    text: Arc<str>,
    /// Byte offsets at which lines begin; made when the first position is asked for.
    line_starts: OnceLock<Arc<[u32]>>,
}

impl Sources {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file under the path that people shall see. A byte order mark at the start is dropped.
    pub fn add(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> FileId {
        self.put(None, name, text)
    }

    /// The same, in the place of a known file.
    fn put(&mut self, known: Option<FileId>, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> FileId {
        let mut text: Arc<str> = text.into();
        if let Some(rest) = text.strip_prefix('\u{feff}') {
            text = rest.into();
        }
        let file = SourceFile { name: name.into(), text, line_starts: OnceLock::new() };
        if let Some(id) = known
            && let Some(place) = self.files.get_mut(id.0 as usize)
        {
            *place = file;
            return id;
        }
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(file);
        id
    }

    /// Adds a file as it was read from disk. `None` when it is too large (`yaml.too_large`) or not
    /// UTF-8 (`yaml.not_utf8`, with the position of the first bad byte), which is reported.
    pub fn add_bytes(&mut self, name: impl Into<Arc<str>>, bytes: &[u8], diags: &mut Diagnostics) -> Option<FileId> {
        let (file, is_text) = self.put_bytes(None, name, bytes, diags);
        is_text.then_some(file)
    }

    /// The same, in the place of a known file where one is named. Says beside the id whether it is a text.
    pub fn put_bytes(
        &mut self,
        known: Option<FileId>,
        name: impl Into<Arc<str>>,
        bytes: &[u8],
        diags: &mut Diagnostics,
    ) -> (FileId, bool) {
        if bytes.len() > FILE_BYTES_MAX {
            let file = self.put(known, name, "");
            diags.push(parse::too_large(file));
            return (file, false);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => (self.put(known, name, text), true),
            Err(error) => {
                let text = String::from_utf8_lossy(bytes);
                let dropped = text.len() - text.trim_start_matches('\u{feff}').len();
                let at = error.valid_up_to().saturating_sub(dropped);
                let file = self.put(known, name, Cow::into_owned(text));
                diags.push(parse::not_utf8(file, at, bytes));
                (file, false)
            }
        }
    }

    /// Says in which order messages about the files are shown.
    pub fn order(&mut self, files: impl Iterator<Item = FileId>) {
        let mut ranks = vec![u32::MAX; self.files.len()];
        for (rank, file) in (0..).zip(files) {
            if let Some(place) = ranks.get_mut(file.0 as usize) {
                *place = rank;
            }
        }
        self.ranks = ranks.into();
    }

    /// Where a file stands in that order.
    fn rank(&self, file: FileId) -> u32 {
        self.ranks.get(file.0 as usize).copied().unwrap_or(file.0)
    }

    /// All files, in the order in which they were added.
    pub fn files(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..u32::try_from(self.files.len()).unwrap_or(u32::MAX)).map(FileId)
    }

    /// Gives back the memory of a file's text. Its spans then have a name but line 1 only.
    pub fn forget(&mut self, file: FileId) {
        if let Some(known) = self.files.get_mut(file.0 as usize) {
            known.text = "".into();
            known.line_starts = OnceLock::new();
        }
    }

    /// The display path of a file; empty for one that is not of these sources.
    pub fn name(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.name)
    }

    /// The same, to be kept.
    pub fn shared_name(&self, file: FileId) -> Arc<str> {
        self.file(file).map_or_else(Arc::default, |file| file.name.clone())
    }

    /// The file of this display path.
    pub fn named(&self, name: &str) -> Option<FileId> {
        let at = self.files.iter().position(|file| *file.name == *name)?;
        u32::try_from(at).ok().map(FileId)
    }

    /// The text of a file; empty for one that is not of these sources.
    pub fn text(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.text)
    }

    /// The text that a span covers.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Where a span begins.
    pub fn place(&self, span: Span) -> Place<'_> {
        self.place_of(span.file, span.start)
    }

    /// Where a span ends (the position after its last character).
    pub fn end_place(&self, span: Span) -> Place<'_> {
        self.place_of(span.file, span.end)
    }

    /// The first byte of a line (from 1); the end of the text for lines past it.
    fn line_start(&self, file: FileId, line: usize) -> usize {
        let start = |file: &SourceFile| file.line_start(line.saturating_sub(1)) as usize;
        self.file(file).map_or(0, start)
    }

    fn place_of(&self, file: FileId, offset: u32) -> Place<'_> {
        let Some(known) = self.file(file) else {
            return Place { file: "", line: 0, column: 0 };
        };
        let line = known.line_of(offset);
        let start = known.line_start(line) as usize;
        let before = known.text.get(start..offset as usize).unwrap_or("");
        Place { file: &known.name, line: line + 1, column: before.chars().count() + 1 }
    }

    fn file(&self, file: FileId) -> Option<&SourceFile> {
        self.files.get(file.0 as usize)
    }
}

impl SourceFile {
    fn line_starts(&self) -> &[u32] {
        self.line_starts.get_or_init(|| {
            let after_breaks =
                memchr::memchr_iter(b'\n', self.text.as_bytes()).filter_map(|at| u32::try_from(at + 1).ok());
            std::iter::once(0).chain(after_breaks).collect()
        })
    }

    /// The line, from 0, that holds a byte offset.
    fn line_of(&self, offset: u32) -> usize {
        self.line_starts().partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The first byte of a line (from 0); the end of the text for lines past it.
    fn line_start(&self, line: usize) -> u32 {
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.line_starts().get(line).copied().unwrap_or(end)
    }
}

#[cfg(test)]
mod tests;
