//! A syntax error of the YAML parser in words that say what to change.
//!
//! Most syntax errors in policies come from text that needs quotes: `${...}` inside brackets, a path
//! template that begins with `{`, an expression that begins with `!` or `"`, a `: ` in the middle. The
//! line at fault is looked at for these; the guess goes to the help, never to the message.

use serde_yaml::granit_parser::{ErrorKind, ScanError};

use super::parse::{offset, too_deep};
use super::{Diagnostic, FileId, Span};

/// Values longer than this are not repeated in a help text.
const QUOTED_BYTES_MAX: usize = 80;

/// What the parser met, as a diagnostic at its line and column.
pub(super) fn explain(file: FileId, text: &str, error: &ScanError) -> Diagnostic {
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let line = Line::around(text, at);
    let span =
        |at: usize| Span { file, start: offset(at), end: offset(at + text.get(at..).map_or(0, first_char_bytes)) };
    if let Some(tab) = tab_at_fault(text, &line, error.kind()) {
        return Diagnostic::error("yaml.tab", span(tab), "a tab stands where spaces are expected")
            .with_label("tab")
            .with_help("indent with spaces; in YAML tabs do not count as indentation");
    }
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(span(at)),
        ErrorKind::UndeclaredTagHandle | ErrorKind::DuplicateTagDirective => {
            return Diagnostic::error("yaml.tag", span(at), "tags are not supported")
                .with_help("remove the tag; text or an expression that begins with `!` must stand in quotes");
        }
        _ => {}
    }
    let diagnostic = Diagnostic::error("yaml.syntax", span(at), message(error.kind()));
    match cure(&line, error.kind()) {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}

fn first_char_bytes(text: &str) -> usize {
    match text.chars().next() {
        None | Some('\n' | '\r') => 0,
        Some(first) => first.len_utf8(),
    }
}

/// The tab, if a tab is what the parser stumbled over.
fn tab_at_fault(text: &str, line: &Line<'_>, kind: &ErrorKind) -> Option<usize> {
    let named = matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    );
    let indentation = line.text.len() - line.text.trim_start().len();
    let in_line = if named { line.text.len() } else { indentation };
    let searched = line.text.get(..in_line)?;
    if let Some(tab) = searched.find('\t') {
        return Some(line.start + tab);
    }
    // A block scalar's error points at its header, the tab is in the lines below.
    let behind = text.get(line.start..).filter(|_| named)?;
    Some(line.start + behind.find('\t')?)
}

/// Whether an escape names no character: half a surrogate pair, or something above Unicode's end.
fn names_no_character(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidLowSurrogate
            | ErrorKind::InvalidLowSurrogateHexEscape
            | ErrorKind::MissingLowSurrogate
            | ErrorKind::UnpairedLowSurrogate
            | ErrorKind::InvalidUnicodeEscape
    )
}

fn message(kind: &ErrorKind) -> String {
    let text = match kind {
        ErrorKind::ExpectedBlockMappingKey => "expected another `key: value` of this mapping, or its end",
        ErrorKind::ExpectedBlockSequenceEntry => "expected another `- item` of this list",
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
            "expected `,` or `}` in this `{ ... }`"
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
            "expected `,` or `]` in this `[ ... ]`"
        }
        ErrorKind::MappingValueNotAllowed => "a `: ` cannot stand here",
        ErrorKind::InvalidColonPlacement => "a `:` cannot stand here",
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => "expected `key: value` here",
        ErrorKind::UnclosedQuotedScalar => "this quoted text is not closed",
        ErrorKind::InvalidTrailingDoubleQuotedScalar | ErrorKind::InvalidTrailingSingleQuotedScalar => {
            "text stands behind a closing quote"
        }
        ErrorKind::UnknownQuotedScalarEscape => "this quoted text has an unknown escape",
        ErrorKind::InvalidQuotedScalarHexEscape => "an escape of this quoted text has too few digits",
        kind if names_no_character(kind) => "this quoted text has an escape that names no character",
        ErrorKind::BlockSequenceEntryNotAllowed | ErrorKind::BlockEntryInFlowCollection => {
            "a list item `- ` cannot begin here"
        }
        ErrorKind::BomInsideDocument => "a byte order mark stands inside the file",
        ErrorKind::UnexpectedCharacter { character } => {
            return format!("unquoted text cannot begin with `{character}`");
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            return format!("this `{open}` is not closed");
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            return format!("`{open}` is closed by `{close}`");
        }
        ErrorKind::MissingAnchorOrAliasName => {
            "unquoted text cannot begin with `*` or `&`: they mark an alias or anchor"
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

/// What most likely has to be done.
fn cure(line: &Line<'_>, kind: &ErrorKind) -> Option<String> {
    match kind {
        ErrorKind::UnclosedQuotedScalar => {
            return Some("add the closing quote".to_owned());
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            return Some("in double quotes `\\` begins an escape: write `\\\\`, or use single quotes".to_owned());
        }
        ErrorKind::InvalidQuotedScalarHexEscape => {
            let digits = "behind `\\x` stand two, behind `\\u` four hexadecimal digits, behind `\\U` eight";
            return Some(digits.to_owned());
        }
        kind if names_no_character(kind) => {
            let pairs = "`\\uD800` to `\\uDFFF` come in pairs (`\\uD83D\\uDE00`); one escape for any character is \
                         `\\U0001F600`, at most `\\U0010FFFF`";
            return Some(pairs.to_owned());
        }
        ErrorKind::InvalidTrailingDoubleQuotedScalar => return Some(double_quote_cure(line)),
        ErrorKind::UnclosedFlowCollection { open } => {
            return Some(format!("add the closing bracket; text that begins with `{open}` must stand in quotes"));
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar => {
            return Some(
                "inside single quotes a quote is written twice (`''`); or put the whole in double \
                 quotes"
                    .to_owned(),
            );
        }
        _ => {}
    }
    if let Some(template) = line.template_in_brackets() {
        let what = if template.contains("${") { "a `${...}`" } else { "text that holds a `{`" };
        return Some(format!("inside `{{ }}` and `[ ]` {what} must stand in quotes: {}", quoted(template)));
    }
    let value = line.value();
    let reason = match value.chars().next() {
        Some('{') if after_bracket(value, '{', '}') => "text that begins with `{`",
        Some('[') if after_bracket(value, '[', ']') => "text or an expression that begins with `[`",
        Some('@') => "text that begins with `@`",
        Some('`') => "text that begins with a backtick",
        Some('%') => "text that begins with `%`",
        Some('*') => "text that begins with `*`",
        Some('&') => "text that begins with `&`",
        Some('!') => "text or an expression that begins with `!`",
        _ if value.contains(": ") || value.ends_with(':') => "text that holds a `: `",
        _ => return structure_cure(line, kind),
    };
    Some(format!("{reason} must stand in quotes: {}", quoted(value)))
}

/// The help where the shape of the lines is wrong, not one text.
fn structure_cure(line: &Line<'_>, kind: &ErrorKind) -> Option<String> {
    let help = match kind {
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::ExpectedBlockSequenceEntry => {
            "check the indentation: what belongs together begins in the same column"
        }
        ErrorKind::MappingValueNotAllowed => {
            "check the indentation: the line above may already have a value of its own"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey
            if line.text.contains(':') && !line.text.contains(": ") =>
        {
            "write a space behind the colon"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "write `key: value`; a text over several lines is indented or begins with `|`"
        }
        ErrorKind::MissingAnchorOrAliasName => "text that begins with `*` or `&` must stand in quotes: `\"*\"`",
        ErrorKind::InvalidColonPlacement => "a `[` or `{` above may not be closed",
        ErrorKind::BlockSequenceEntryNotAllowed => {
            "begin a list on its own line below the key, or write it as `[a, b]`"
        }
        _ => return None,
    };
    Some(help.to_owned())
}

fn double_quote_cure(line: &Line<'_>) -> String {
    let value = line.value();
    let inside = value.len() > 2 && value.ends_with('"');
    if inside && value.contains("${") {
        let inner = value.get(1..value.len() - 1).unwrap_or("");
        let cured = inner.replace('"', "'");
        if cured.len() <= QUOTED_BYTES_MAX {
            return format!("the text ends at its second `\"`; write the quotes inside as single ones: `\"{cured}\"`");
        }
    }
    format!(
        "the text ends at its second `\"`; an expression that begins with a quote must stand in quotes as a \
         whole: {}",
        quoted(value)
    )
}

/// Whether a value goes on behind the bracket that closes its first one, as in `{name}/rest`.
fn after_bracket(value: &str, open: char, close: char) -> bool {
    let mut depth = 0_usize;
    for (at, c) in value.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return value.get(at + 1..).is_some_and(|rest| !rest.is_empty());
            }
        }
    }
    false
}

/// A value as it can be written, in the quotes that need no escapes.
pub(super) fn quoted(value: &str) -> String {
    if value.is_empty() || value.len() > QUOTED_BYTES_MAX {
        "`\"...\"`".to_owned()
    } else if !value.contains(['"', '\\']) {
        format!("`\"{value}\"`")
    } else {
        format!("`'{}'`", value.replace('\'', "''"))
    }
}

/// The line at fault.
struct Line<'a> {
    text: &'a str,
    start: usize,
    /// Where in `text` the fault is.
    fault: usize,
}

impl<'a> Line<'a> {
    fn around(text: &'a str, at: usize) -> Self {
        let (before, behind) = text.split_at_checked(at).unwrap_or((text, ""));
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = behind.find('\n').map_or(text.len(), |end| at + end);
        Line { text: text.get(start..end).unwrap_or("").trim_end(), start, fault: at - start }
    }

    /// What stands behind the indentation, the `- ` and the `key: `, without a comment.
    fn value(&self) -> &'a str {
        let mut rest = self.text.trim_start();
        while let Some(item) = rest.strip_prefix("- ") {
            rest = item.trim_start();
        }
        let is_key = |key: &str| !key.is_empty() && !key.contains(['"', '\'', '{', '[', ' ']);
        if let Some((key, value)) = rest.split_once(": ")
            && is_key(key)
        {
            rest = value.trim_start();
        }
        let comment = rest.find(" #").unwrap_or(rest.len());
        rest.get(..comment).unwrap_or(rest).trim_end()
    }

    /// The unquoted text, with its `${...}` or `{name}`, whose `{` the parser took for a bracket inside
    /// other brackets.
    fn template_in_brackets(&self) -> Option<&'a str> {
        let (led, behind) = self.text.split_at_checked(self.fault)?;
        let glued = led.ends_with(|c: char| !c.is_whitespace() && !"[{,".contains(c));
        if !(behind.starts_with('{') && glued) {
            return None;
        }
        let from = led.rfind([' ', '[', ',', '{']).map_or(0, |at| at + 1);
        let closed = self.fault + behind.find('}')? + 1;
        let rest = self.text.get(closed..)?;
        let tail = rest.find([' ', ',', ']', '}']).unwrap_or(rest.len());
        self.text.get(from..closed + tail)
    }
}
