//! Rhai's constructs outside of the native subset, each with its cure.
//!
//! Someone who knows Rhai, or another language, meets these first; a plain "unexpected token" would not help.

use std::ops::Range;

use crate::expr::Error;

/// Not shown to anyone: the native form has met what only the interpreter takes.
pub(super) const NEEDS_INTERPRETER: &str = "needs the interpreter";

/// What is refused, and what to write in its place.
pub(super) struct Refused {
    /// The sign or word as it is written.
    pub spelling: &'static str,
    construct: &'static str,
    cure: &'static str,
}

const fn refused(spelling: &'static str, construct: &'static str, cure: &'static str) -> Refused {
    Refused { spelling, construct, cure }
}

const DECIDE: &str = "decide with the steps `if` and `switch`, or with `&&`, `||` and `??`";
const STEPS: &str = "keep a value with the step `set` and read it by its name";
const LOOPS: &str = "repeat steps with `for_each`";
const FAULTS: &str = "deny with the step `raise`, catch with `try`";
const ABSENT: &str = "there is no such value: test with `exists(x)`, give a default with `x ?? 'default'`";
const EQUALS: &str = "compare with `==`; set a variable with the step `set`";
const BITS: &str = "there are no bit operators; combine conditions with `&&` and `||`";
const PLAIN: &str = "write one expression only: paths, literals, operators and the functions of the reference";

/// Signs, longest first where one begins another.
pub(super) const SIGNS: &[Refused] = &[
    refused("===", "the operator `===`", "write `==`: values of different types are never equal silently"),
    refused("!==", "the operator `!==`", "write `!=`"),
    refused("..=", "ranges", "compare both ends: `x >= 1 && x <= 9`"),
    refused("..", "ranges", "compare both ends: `x >= 1 && x < 10`"),
    refused("?.", "`?.`", "write `.`: a path through an absent member is absent, so one `??` at its end is enough"),
    refused("?[", "`?[`", "write `[`: a path through an absent member is absent, so one `??` at its end is enough"),
    refused("??=", "assignment", EQUALS),
    refused("=>", "`switch` arms and arrows", DECIDE),
    refused("->", "arrows", PLAIN),
    refused("::", "modules", "call the functions of the reference by their plain names"),
    refused("**", "the power operator", "multiply: `x * x`"),
    refused("<<", "bit shifts", BITS),
    refused(">>", "bit shifts", BITS),
    refused("+=", "assignment", EQUALS),
    refused("-=", "assignment", EQUALS),
    refused("*=", "assignment", EQUALS),
    refused("/=", "assignment", EQUALS),
    refused("%=", "assignment", EQUALS),
    refused("//", "comments", "write a comment in the YAML, after `#`"),
    refused("/*", "comments", "write a comment in the YAML, after `#`"),
    refused("${", "`${` inside of an expression", "write the path bare here; `${...}` belongs into texts"),
    refused("=", "assignment", EQUALS),
    refused(";", "statements", PLAIN),
    refused("{", "blocks", "write maps as `#{key: value}`; decide with the steps `if` and `switch`"),
    refused("`", "text in backticks", "write '...' or \"...\"; join texts with `+`"),
    refused("|", "closures and the operator `|`", "combine conditions with `||`; repeat steps with `for_each`"),
    refused("&", "the operator `&`", "combine conditions with `&&`"),
    refused("^", "the operator `^`", BITS),
    refused("~", "the operator `~`", BITS),
    refused("?", "the operator `?`", DECIDE),
];

/// Words that begin no path.
const WORDS: &[Refused] = &[
    refused("if", "if-expressions", DECIDE),
    refused("else", "if-expressions", DECIDE),
    refused("switch", "switch-expressions", DECIDE),
    refused("let", "variables", STEPS),
    refused("const", "constants", STEPS),
    refused("var", "variables", STEPS),
    refused("fn", "functions of your own", "write an assertion of your own in `assertions/`"),
    refused("function", "functions of your own", "write an assertion of your own in `assertions/`"),
    refused("for", "loops", LOOPS),
    refused("while", "loops", LOOPS),
    refused("loop", "loops", LOOPS),
    refused("do", "loops", LOOPS),
    refused("until", "loops", LOOPS),
    refused("break", "loops", LOOPS),
    refused("continue", "loops", LOOPS),
    refused("return", "`return`", "the expression itself is the value"),
    refused("throw", "`throw`", FAULTS),
    refused("try", "`try`", FAULTS),
    refused("catch", "`catch`", FAULTS),
    refused("import", "modules", "include steps with `include`"),
    refused("export", "modules", "include steps with `include`"),
    refused("this", "`this`", "name the variable by its full path"),
    refused("new", "objects", "write maps as `#{key: value}`"),
    refused("null", "`null`", ABSENT),
    refused("nil", "`nil`", ABSENT),
    refused("undefined", "`undefined`", ABSENT),
    refused("void", "`void`", ABSENT),
    refused("not", "the word `not`", "write `!x`, or `!in`"),
    refused("and", "the word `and`", "write `&&`"),
    refused("or", "the word `or`", "write `||`"),
];

/// The refused word or sign of this spelling.
pub(super) fn named(spelling: &str) -> Option<&'static Refused> {
    word(spelling).or_else(|| SIGNS.iter().find(|sign| sign.spelling == spelling))
}

/// The refused word of this spelling.
pub(super) fn word(spelling: &str) -> Option<&'static Refused> {
    WORDS.iter().find(|word| word.spelling == spelling)
}

impl Refused {
    /// The load error at its place.
    pub fn error(&self, at: Range<usize>) -> Error {
        let message = format!("Expressions have no {} here.", self.construct);
        let code = if self.interpreted() { NEEDS_INTERPRETER } else { "expr.unsupported" };
        Error::new(code, at, message, "not here").with_help(self.cure)
    }

    /// Whether the interpreter takes a text that begins to need it here.
    pub fn interpreted(&self) -> bool {
        matches!(self.spelling, "if" | "switch" | "{" | "`" | "|" | "=>" | ".." | "..=" | "//" | "/*")
    }
}
