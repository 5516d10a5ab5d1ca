//! Rhai's parse errors in the words of the language.

use rhai::{LexError, ParseError, ParseErrorType as P};

use crate::expr::Error;
use crate::expr::interpret::engine::{DEPTH_MAX, FUNCTION_DEPTH_MAX, FUNCTIONS_MAX};
use crate::expr::interpret::source::Source;
use crate::expr::words;

/// The load error for what Rhai could not parse.
pub(super) fn of(error: &ParseError, source: &Source<'_>) -> Error {
    let at = source.range(error.position());
    let syntax = |message: String, label: &str| Error::new("expr.syntax", at.clone(), message, label);
    let refused = |word: &str| words::named(word).map(|refused| refused.error(at.clone()));
    match error.err_type() {
        P::UnexpectedEOF => syntax("The text ends where something is still missing.".into(), "ends here")
            .with_help("close what is open: `)`, `]`, `}` or a quote"),
        P::BadInput(LexError::UnterminatedString) => {
            Error::new("expr.bad_text", at.clone(), "The text that begins here is not closed.", "begins here")
                .with_help("close the quote; a line break inside of a text is written \\n")
        }
        P::BadInput(LexError::MalformedEscapeSequence(escape)) => {
            let message = format!("`{escape}` is no escape of a text.");
            Error::new("expr.bad_text", at.clone(), message, "unknown escape")
                .with_help("there are \\n \\t \\r \\\\ \\' \\\" and \\u{1F600}; a backslash itself is written \\\\")
        }
        P::BadInput(LexError::MalformedNumber(number)) => {
            Error::new("expr.bad_number", at.clone(), format!("`{number}` is no number."), "not a number")
                .with_help("numbers are written as 15, 1_000, 2.5 or 1e6")
        }
        P::BadInput(LexError::StringTooLong(_)) | P::LiteralTooLarge(..) => {
            Error::new("expr.too_long", at.clone(), "A literal is too large.", "too large")
                .with_help("put the words into a `list` resource")
        }
        P::BadInput(LexError::ImproperSymbol(symbol, _) | LexError::UnexpectedInput(symbol))
        | P::Reserved(symbol)
        | P::UnknownOperator(symbol) => refused(symbol).unwrap_or_else(|| not_here(symbol, at.clone())),
        P::ExprTooDeep => {
            let message =
                format!("Expressions and blocks nest at most {DEPTH_MAX} deep, in functions {FUNCTION_DEPTH_MAX}.");
            Error::new("expr.too_deep", at.clone(), message, "too deep here")
                .with_help("keep parts of it in locals: `let a = ...;`")
        }
        P::TooManyFunctions => {
            let message = format!("A script has at most {FUNCTIONS_MAX} functions and closures.");
            Error::new("expr.too_long", at.clone(), message, "one too many").with_help("split it over several steps")
        }
        P::AssignmentToConstant(name) => {
            let name = if name.is_empty() { "this" } else { name };
            Error::new("expr.read_only", at.clone(), format!("`{name}` is a constant."), "read only")
                .with_help("declare it with `let`")
        }
        P::AssignmentToInvalidLHS(_) => {
            Error::new("expr.read_only", at.clone(), "Nothing can be assigned to this.", "not a variable")
                .with_help("compare with `==`; assign to a local that `let` declared")
        }
        other => {
            let message = other.to_string();
            let message = message.trim_end_matches('.');
            syntax(format!("{message}."), "not expected here")
                .with_help("the syntax is that of Rhai; see docs/scripts.md")
        }
    }
}

fn not_here(symbol: &str, at: std::ops::Range<usize>) -> Error {
    let message = format!("`{symbol}` is no part of the language.");
    Error::new("expr.unsupported", at, message, "not here").with_help(
        "scripts compute and decide: they print nothing, load nothing and call only the functions of the reference",
    )
}
