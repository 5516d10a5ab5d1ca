//! Regular expressions of parameters: linear time, a bound on the compiled form, and errors with their cure.
//!
//! Patterns are literals: a text of a client never becomes one.

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind};

use crate::compile::Compile;
use crate::expr::REGEX_BYTES_MAX;
use crate::source::Literal;

/// How a pattern is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct PatternFlags {
    /// Letters match without case.
    pub ignore_case: bool,
    /// `^` and `$` match at lines.
    pub multi_line: bool,
    /// `.` matches a line feed too.
    pub dot_all: bool,
    /// The whole text has to match.
    pub full: bool,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub regex: Regex,
    /// For each capture group, counted from 0 for the whole: it takes part in every match.
    always: Vec<bool>,
}

impl Pattern {
    /// The named groups, with their number and whether each takes part in every match.
    pub fn named_groups(&self) -> impl Iterator<Item = (&str, usize, bool)> {
        let names = self.regex.capture_names().enumerate();
        names.filter_map(|(at, name)| Some((name?, at, self.always.get(at).copied().unwrap_or_default())))
    }
}

impl Compile<'_> {
    /// Compiles a pattern.
    pub fn pattern(&mut self, literal: &Literal, flags: PatternFlags) -> Option<Pattern> {
        let source = self.literal(literal)?;
        match pattern(&source, flags) {
            Ok(pattern) => Some(pattern),
            Err(reason) => {
                let message = format!("this is no regular expression that can be used: {reason}");
                let help = "the syntax is that of Rust's regex crate: no look-around, no back references; between \
                            double quotes a backslash is written \\\\";
                self.refuse("expr.bad_regex", literal.span(), message, help)
            }
        }
    }
}

fn pattern(source: &str, flags: PatternFlags) -> Result<Pattern, String> {
    let build = |source: &str| {
        let mut builder = RegexBuilder::new(source);
        builder.case_insensitive(flags.ignore_case).multi_line(flags.multi_line);
        builder.dot_matches_new_line(flags.dot_all).size_limit(REGEX_BYTES_MAX).build()
    };
    // Alone first: brackets that do not match inside must not match those around.
    let alone = build(source).map_err(reason)?;
    let regex = match flags.full {
        true => build(&format!("\\A(?:{source})\\z")).map_err(reason)?,
        false => alone,
    };
    let mut always = vec![false; regex.captures_len()];
    if let Ok(hir) = regex_syntax::parse(source) {
        find_always(&hir, &mut always);
    }
    Ok(Pattern { regex, always })
}

/// The last line of the crate's message, which names the construct.
fn reason(error: regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Marks the groups that no alternative and no repetition can leave out. The nesting of a pattern is bounded
/// by its parser.
fn find_always(hir: &Hir, always: &mut [bool]) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            let index = usize::try_from(capture.index).unwrap_or(usize::MAX);
            if let Some(takes_part) = always.get_mut(index) {
                *takes_part = true;
            }
            find_always(&capture.sub, always);
        }
        HirKind::Concat(parts) => parts.iter().for_each(|part| find_always(part, always)),
        HirKind::Repetition(repetition) if repetition.min > 0 => find_always(&repetition.sub, always),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(source: &str) -> Vec<(String, bool)> {
        let pattern = pattern(source, PatternFlags::default()).unwrap();
        pattern.named_groups().map(|(name, _, always)| (name.to_owned(), always)).collect()
    }

    #[test]
    fn a_group_that_may_take_no_part_is_known() {
        assert_eq!(groups("(?<a>x)(?<b>y)?(?<c>z)+"), [("a".into(), true), ("b".into(), false), ("c".into(), true)]);
        assert_eq!(groups("(?<a>x)|(?<b>y)"), [("a".into(), false), ("b".into(), false)]);
        assert_eq!(groups("((?<a>x){0,3}(?:(?<b>y)))"), [("a".into(), false), ("b".into(), true)]);
    }

    #[test]
    fn the_whole_text_is_meant_whatever_the_pattern_holds() {
        let full = |source| pattern(source, PatternFlags { full: true, multi_line: true, ..Default::default() });
        let matches = |source, text| full(source).unwrap().regex.is_match(text);
        assert!(matches("a|ab", "ab") && !matches("a|b", "ab") && !matches("^a$", "x\na"));
        assert!(full("a)|(?:b").is_err());
    }

    #[test]
    fn what_is_refused_is_named() {
        let why = |source| pattern(source, PatternFlags::default()).unwrap_err();
        assert!(why("(?=a)").contains("look-ahead") && why("(a)\\1").contains("backreferences"));
        assert!(why("(a{999}){999}").contains("size"), "{}", why("(a{999}){999}"));
    }
}
