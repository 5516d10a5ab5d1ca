//! Which source bytes a scalar's decoded text came from, so that a mistake inside a template or an
//! expression is underlined where it stands, also in folded and escaped text.
//!
//! Source and text are walked side by side: equal characters align, runs of white space (which YAML
//! folds, strips as indentation and trims) are skipped on both sides, escapes of quoted scalars are
//! stepped over. If the two do not end together nothing is claimed.

use super::ScalarStyle;

/// Longer scalars are underlined as a whole, which bounds the memory of the table.
const ALIGNED_BYTES_MAX: usize = 64 * 1024;

/// How decoded text lies in the source.
#[derive(Debug)]
pub(super) enum Alignment {
    /// Not known: made, or not alignable.
    Unknown,
    /// Byte by byte from this source offset.
    Direct(u32),
    /// Piece by piece, in order of the text.
    Pieces(Box<[Piece]>),
}

/// From text byte `text` on, the source is at `source + (offset - text)`; up to the next piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    text: u32,
    source: u32,
}

impl Alignment {
    /// Aligns `text` with `raw`, the scalar's source including quotes, which begins at byte `start`.
    pub(super) fn of(text: &str, raw: &str, start: u32, style: ScalarStyle) -> Self {
        let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
        let (inner, start) = match raw.get(1..raw.len().saturating_sub(1)) {
            Some(inner) if quoted => (inner, start + 1),
            _ => (raw, start),
        };
        if inner == text {
            return Alignment::Direct(start);
        }
        if text.len() > ALIGNED_BYTES_MAX || inner.len() > ALIGNED_BYTES_MAX {
            return Alignment::Unknown;
        }
        pieces(text, inner, start, style).map_or(Alignment::Unknown, Alignment::Pieces)
    }

    /// The source bytes of the text bytes `start..end`.
    pub(super) fn source_of(&self, start: usize, end: usize) -> Option<(u32, u32)> {
        let start = u32::try_from(start).ok()?;
        let end = u32::try_from(end).ok()?.max(start);
        let first = self.source_at(start)?;
        // The end follows the last byte, not what comes after a fold or an escape.
        let last = match end.checked_sub(1) {
            Some(last) if last >= start => self.source_at(last)? + 1,
            _ => first,
        };
        Some((first, last.max(first)))
    }

    fn source_at(&self, offset: u32) -> Option<u32> {
        match self {
            Alignment::Unknown => None,
            Alignment::Direct(source) => source.checked_add(offset),
            Alignment::Pieces(pieces) => {
                let next = pieces.partition_point(|piece| piece.text <= offset);
                let piece = pieces.get(next.checked_sub(1)?)?;
                piece.source.checked_add(offset - piece.text)
            }
        }
    }
}

fn pieces(text: &str, raw: &str, start: u32, style: ScalarStyle) -> Option<Box<[Piece]>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut at_text, mut at_raw) = (0, 0);
    loop {
        let (rest_text, rest_raw) = (text.get(at_text..)?, raw.get(at_raw..)?);
        let step = Step::next(rest_text, rest_raw, style)?;
        if step == Step::default() {
            return Some(pieces.into());
        }
        if step.aligned {
            let piece =
                Piece { text: u32::try_from(at_text).ok()?, source: start.checked_add(u32::try_from(at_raw).ok()?)? };
            let continues = pieces
                .last()
                .is_some_and(|last| piece.source.checked_sub(last.source) == piece.text.checked_sub(last.text));
            if !continues {
                pieces.push(piece);
            }
        }
        at_text += step.text;
        at_raw += step.raw;
    }
}

/// How many bytes of text and source belong together next. Zero of both is the end.
#[derive(Default, PartialEq)]
struct Step {
    text: usize,
    raw: usize,
    aligned: bool,
}

impl Step {
    fn next(text: &str, raw: &str, style: ScalarStyle) -> Option<Step> {
        let (text_space, raw_space) = (space_bytes(text), raw_space_bytes(raw, style));
        if text_space > 0 || raw_space > 0 {
            return Some(Step { text: text_space, raw: raw_space, aligned: text_space > 0 });
        }
        let Some(wanted) = text.chars().next() else {
            return raw.is_empty().then(Step::default);
        };
        let raw_bytes = match style {
            ScalarStyle::SingleQuoted if raw.starts_with("''") => 2,
            ScalarStyle::DoubleQuoted if raw.starts_with('\\') => escape_bytes(raw)?,
            _ if raw.starts_with(wanted) => wanted.len_utf8(),
            _ => return None,
        };
        Some(Step { text: wanted.len_utf8(), raw: raw_bytes, aligned: true })
    }
}

fn space_bytes(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len()
}

/// White space of the source, in double quotes with the escapes that stand for it and with escaped
/// line breaks.
fn raw_space_bytes(raw: &str, style: ScalarStyle) -> usize {
    const ESCAPES: [&str; 7] = ["\\n", "\\t", "\\r", "\\ ", "\\\t", "\\\n", "\\\r"];
    let mut bytes = space_bytes(raw);
    if style != ScalarStyle::DoubleQuoted {
        return bytes;
    }
    loop {
        let rest = raw.get(bytes..).unwrap_or("");
        let Some(escape) = ESCAPES.iter().find(|escape| rest.starts_with(**escape)) else {
            return bytes;
        };
        bytes += escape.len();
        bytes += space_bytes(raw.get(bytes..).unwrap_or(""));
    }
}

/// The length of an escape sequence of a double-quoted scalar (YAML 1.2.2 §5.7) that stands for one
/// character. `None` for surrogates, which come in pairs.
fn escape_bytes(raw: &str) -> Option<usize> {
    match raw.as_bytes().get(1)? {
        b'x' => Some(4),
        b'u' if raw.get(2..3)?.eq_ignore_ascii_case("d") => None,
        b'u' => Some(6),
        b'U' => Some(10),
        _ => Some(2),
    }
}
