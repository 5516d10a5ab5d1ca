//! The text as Rhai is given it, and the way back to where the operator wrote it.
//!
//! Rhai knows characters in single quotes and escapes with fixed digits; the language has texts in both quotes and
//! `\u{1F600}`. So every text literal is written anew, in double quotes and with Rhai's escapes, and every byte of the
//! result remembers where it came from. Nothing else is changed.

use std::ops::Range;

use rhai::Position;

/// A rewritten source.
pub(super) struct Source<'t> {
    original: &'t str,
    pub text: String,
    /// From this byte of the rewritten text on, the original is at the other one.
    pieces: Vec<(usize, usize)>,
}

/// Where the scan stands: in code, with the braces open since it began, or in a text in backticks.
enum Mode {
    Code(usize),
    Backticks,
}

impl<'t> Source<'t> {
    /// Rewrites the texts of a source.
    pub fn of(original: &'t str) -> Source<'t> {
        let mut source = Source { original, text: String::with_capacity(original.len() + 16), pieces: vec![(0, 0)] };
        source.rewrite();
        source
    }

    fn rewrite(&mut self) {
        let mut modes = vec![Mode::Code(0)];
        let mut at = 0;
        while let Some(rest) = self.original.get(at..).filter(|rest| !rest.is_empty()) {
            let length = match modes.last_mut() {
                Some(Mode::Backticks) => {
                    let (length, ended) = backticks(rest);
                    match ended {
                        Ended::Text => drop(modes.pop()),
                        Ended::Hole => modes.push(Mode::Code(0)),
                        Ended::Not => {}
                    }
                    length
                }
                Some(Mode::Code(depth)) => match rest.as_bytes().first() {
                    Some(b'\'' | b'"') => {
                        at = self.text_literal(at);
                        continue;
                    }
                    Some(b'`') => {
                        modes.push(Mode::Backticks);
                        1
                    }
                    Some(b'{') => {
                        *depth += 1;
                        1
                    }
                    Some(b'}') => {
                        match depth.checked_sub(1) {
                            Some(less) => *depth = less,
                            None if modes.len() > 1 => drop(modes.pop()),
                            None => {}
                        }
                        1
                    }
                    _ => plain(rest),
                },
                None => rest.len(),
            };
            self.copy(at, length);
            at += length;
        }
    }

    fn copy(&mut self, at: usize, length: usize) {
        let from = self.text.len();
        if self.pieces.last().is_none_or(|(out, origin)| at + out != origin + from) {
            self.pieces.push((from, at));
        }
        self.text.push_str(self.original.get(at..at + length).unwrap_or_default());
    }

    fn put(&mut self, at: usize, text: &str) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
    }

    /// A text literal that begins here; gives where it ends.
    fn text_literal(&mut self, start: usize) -> usize {
        let rest = self.original.get(start..).unwrap_or_default();
        let mut chars = rest.char_indices();
        let Some((_, quote)) = chars.next() else { return start };
        self.put(start, "\"");
        let mut escaped = false;
        let mut skip_to = 0;
        for (offset, char) in chars {
            let at = start + offset;
            if offset < skip_to {
                continue;
            }
            match char {
                'u' if escaped && let Some((length, digits)) = code_point(rest.get(offset..).unwrap_or_default()) => {
                    self.put(at - 1, &format!("\\U{digits:0>8}"));
                    (escaped, skip_to) = (false, offset + length);
                }
                '\'' if escaped => (escaped, _) = (false, self.put(at - 1, "'")),
                _ if escaped => {
                    self.put(at - 1, "\\");
                    self.copy(at, char.len_utf8());
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if char == quote => {
                    self.put(at, "\"");
                    return at + 1;
                }
                '"' => self.put(at, "\\\""),
                _ => self.copy(at, char.len_utf8()),
            }
        }
        self.original.len()
    }

    /// The byte of the original that a place of Rhai's means: a line and a column in characters.
    pub fn offset(&self, position: Position) -> usize {
        let (Some(line), column) = (position.line(), position.position().unwrap_or(1)) else {
            return self.original.trim_end().len();
        };
        let mut start = 0;
        for text in self.text.split_inclusive('\n').take(line.saturating_sub(1)) {
            start += text.len();
        }
        let rest = self.text.get(start..).unwrap_or_default();
        let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
        self.original_of(start + within)
    }

    /// What stands at a place, and after it.
    pub fn word(&self, position: Position) -> &'t str {
        self.original.get(self.offset(position)..).unwrap_or_default()
    }

    /// The text in quotes that begins at a place.
    pub fn literal(&self, position: Position) -> Range<usize> {
        let start = self.offset(position);
        let rest = self.original.get(start..).unwrap_or_default();
        let close = rest.chars().next().and_then(|quote| rest.get(1..)?.find(quote));
        start..start + close.map_or(1, |at| at + 2)
    }

    fn original_of(&self, rewritten: usize) -> usize {
        let next = self.pieces.partition_point(|(out, _)| *out <= rewritten);
        let (out, origin) = next.checked_sub(1).and_then(|at| self.pieces.get(at)).copied().unwrap_or((0, 0));
        (origin + (rewritten - out)).min(self.original.len())
    }

    /// The word, number or sign that begins at a place.
    pub fn range(&self, position: Position) -> Range<usize> {
        let start = self.offset(position);
        let rest = self.original.get(start..).unwrap_or_default();
        let word = rest.find(|char| !super::super::lex::continues_name(char)).unwrap_or(rest.len());
        let sign = rest.chars().next().map_or(0, char::len_utf8);
        start..start + word.max(sign)
    }
}

enum Ended {
    Not,
    Text,
    Hole,
}

/// Bytes of a text in backticks up to its end or the next `${`, those included.
fn backticks(rest: &str) -> (usize, Ended) {
    let end = rest.find('`').unwrap_or(rest.len());
    match rest.find("${") {
        Some(hole) if hole < end => (hole + 2, Ended::Hole),
        _ if rest.get(end..).is_some_and(|after| after.starts_with("``")) => (end + 2, Ended::Not),
        _ if end < rest.len() => (end + 1, Ended::Text),
        _ => (rest.len(), Ended::Not),
    }
}

/// Bytes of code that are copied as they are: a comment, a raw text, or one character.
fn plain(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let (mut depth, mut at) = (1, 2);
        while let Some(next) = rest.get(at..).filter(|next| depth > 0 && !next.is_empty()) {
            let opens = next.starts_with("/*");
            if opens || next.starts_with("*/") {
                depth = if opens { depth + 1 } else { depth - 1 };
                at += 2;
            } else {
                at += next.chars().next().map_or(1, char::len_utf8);
            }
        }
        return at;
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    if hashes > 0 && rest.get(hashes..).is_some_and(|after| after.starts_with('"')) {
        let close = format!("\"{}", "#".repeat(hashes));
        let inside = rest.get(hashes + 1..).unwrap_or_default();
        return inside.find(&close).map_or(rest.len(), |at| hashes + 1 + at + close.len());
    }
    rest.chars().next().map_or(1, char::len_utf8)
}

/// Length and digits of `u{1F600}`.
fn code_point(rest: &str) -> Option<(usize, &str)> {
    let inside = rest.strip_prefix("u{")?;
    let digits = inside.get(..inside.find('}')?)?;
    let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some((digits.len() + 3, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_single_quotes_become_texts_and_places_stay() {
        let original = r#"let a = 'it\'s "x"'; let b = "\u{1F600}\'"; c"#;
        let source = Source::of(original);
        assert_eq!(source.text, r#"let a = "it's \"x\""; let b = "\U0001F600'"; c"#);
        let c = source.text.len();
        assert_eq!(source.offset(Position::new(1, u16::try_from(c).unwrap())), original.len() - 1);
        assert_eq!(Source::of("''").text, "\"\"");
    }

    #[test]
    fn texts_inside_of_interpolation_are_found_and_backticks_left_alone() {
        let source = Source::of("`it's ${ if x { 'a' } else { `b'${'c'}` } } '`; 'd' // it's\n'e'");
        assert_eq!(source.text, "`it's ${ if x { \"a\" } else { `b'${\"c\"}` } } '`; \"d\" // it's\n\"e\"");
        assert_eq!(Source::of("#\"it's\"# /* ' /* ' */ ' */ 'a'").text, "#\"it's\"# /* ' /* ' */ ' */ \"a\"");
    }
}
