//! The closed list of functions: one table entry each, from which the reference and the tests are made.
//!
//! Adding a function is adding its entry and its implementation; the check and the evaluation know none by name.

mod conversions;
mod numbers;
mod signing;
mod texts;

use std::borrow::Cow;

use crate::engine::value::{Element, Type, Val};
use crate::expr::compare::{Entries, Items};
use crate::expr::failure::Failure;
use crate::expr::{Kinds, TEXT_BYTES_MAX};

/// Most parameters of a function.
pub(super) const ARGUMENTS_MAX: usize = 3;
/// Fewest bytes of `random_hex`: 128 bits are not guessed.
pub const RANDOM_BYTES_MIN: usize = 16;
/// Most bytes of `random_hex`.
pub const RANDOM_BYTES_MAX: usize = 1024;

/// The implementation of a function of its arguments alone.
pub(super) type Pure = for<'x> fn(Arguments<'x>) -> Result<Val<'x>, Failure>;

/// Arguments whose kinds have been checked against the table.
pub(super) struct Arguments<'x> {
    pub values: [Val<'x>; ARGUMENTS_MAX],
    /// One of them is a secret or token: comparisons must be constant in time.
    pub marked: bool,
}

impl<'x> Arguments<'x> {
    fn texts(self) -> [Cow<'x, str>; ARGUMENTS_MAX] {
        self.values.map(|val| match val {
            Val::Text(text) => text,
            _ => Cow::Borrowed(""),
        })
    }

    fn first(self) -> Val<'x> {
        let [first, ..] = self.values;
        first
    }
}

/// What a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    Is(Type),
    /// The type of its numbers; float where they are mixed.
    Number,
    /// A list of what the map holds.
    Elements,
    /// What the scope says: `secret`, `list`.
    Scope,
}

/// How the compiler treats a function.
#[derive(Clone, Copy)]
pub(super) enum Run {
    Pure(Pure),
    Contains,
    Exists,
    InCidr,
    Matches,
    Now,
    Random,
    RandomHex,
    Scope,
    Uuid,
}

/// One function of the closed list.
pub struct Function {
    pub name: &'static str,
    /// What each parameter accepts.
    pub accepts: &'static [Kinds],
    /// The parameters as the reference prints them.
    pub parameters: &'static str,
    pub returns: Returns,
    /// One line for the reference.
    pub doc: &'static str,
    /// An expression, and another one that equals it.
    pub example: (&'static str, &'static str),
    pub(super) run: Run,
    /// Says only yes, no or a length: the mark of its arguments ends here.
    pub(super) tests: bool,
}

/// The function of this name.
pub fn named(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

const TEXT: Kinds = Kinds::TEXT;
const BINARY: Kinds = Kinds::BYTES.or(Kinds::TEXT);
const SCALAR: Kinds = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL);
const SIZED: Kinds = Kinds::TEXT.or(Kinds::BYTES).or(Kinds::LIST).or(Kinds::MAP);
const TO_TEXT: Returns = Returns::Is(Type::Text);
const TO_BOOL: Returns = Returns::Is(Type::Bool);
const TO_INT: Returns = Returns::Is(Type::Int);
const TO_TEXTS: Returns = Returns::Is(Type::List(Element::Text));

const fn function(
    name: &'static str,
    (accepts, parameters): (&'static [Kinds], &'static str),
    returns: Returns,
    run: Run,
    doc: &'static str,
    example: (&'static str, &'static str),
) -> Function {
    let tests = matches!(returns, Returns::Is(Type::Bool));
    Function { name, accepts, parameters, returns, doc, example, run, tests }
}

const fn pure(
    name: &'static str,
    parameters: (&'static [Kinds], &'static str),
    returns: Returns,
    run: Pure,
    doc: &'static str,
    example: (&'static str, &'static str),
) -> Function {
    function(name, parameters, returns, Run::Pure(run), doc, example)
}

const S: (&[Kinds], &str) = (&[TEXT], "string");
const S_S: (&[Kinds], &str) = (&[TEXT, TEXT], "string, string");
const S_I: (&[Kinds], &str) = (&[TEXT, Kinds::INT], "string, int");
const N: (&[Kinds], &str) = (&[Kinds::NUMBER], "number");
const N_N: (&[Kinds], &str) = (&[Kinds::NUMBER, Kinds::NUMBER], "number, number");
const B: (&[Kinds], &str) = (&[BINARY], "bytes or string");
const ANY: (&[Kinds], &str) = (&[Kinds::ANY], "any");

/// All functions, by name.
#[rustfmt::skip] // A table: one entry, one line or two.
pub static FUNCTIONS: &[Function] = &[
    pure("abs", N, Returns::Number, numbers::abs, "The number without its sign.", ("abs(-3)", "3")),
    pure("base64", B, TO_TEXT, conversions::base64, "Base64 with padding (RFC 4648 §4).", ("base64('hi?>')", "'aGk/Pg=='")),
    pure("base64url", B, TO_TEXT, conversions::base64url, "Base64 for URLs, without padding (RFC 4648 §5).", ("base64url('hi?>')", "'aGk_Pg'")),
    pure("bucket", (&[TEXT, Kinds::INT], "string, int"), TO_INT, numbers::bucket,
        "A stable number from 0 to n-1: FNV-1a (64 bit) of the UTF-8 bytes, modulo n.", ("bucket('alice', 100)", "83")),
    function("contains", (&[TEXT.or(Kinds::LIST), Kinds::ANY], "string or list, any"), TO_BOOL, Run::Contains,
        "Whether a text holds another, or a list an element.", ("contains([1, 2], 2) && contains('abc', 'bc')", "true")),
    pure("ends_with", S_S, TO_BOOL, texts::ends_with, "Whether a text ends with another.", ("ends_with('a.json', '.json')", "true")),
    function("exists", ANY, TO_BOOL, Run::Exists, "Whether there is a value.", ("exists(#{a: 1}.b)", "false")),
    pure("float", (&[SCALAR], "string, number or bool"), Returns::Is(Type::Float), numbers::float,
        "The number that a decimal text holds.", ("float('2.5')", "2.5")),
    pure("hex", B, TO_TEXT, conversions::hex, "Bytes as lower-case hexadecimal digits (RFC 4648 §8).", ("hex('hi')", "'6869'")),
    function("in_cidr", (&[TEXT, TEXT.or(Kinds::LIST)], "string, LITERAL or list"), TO_BOOL, Run::InCidr,
        "Whether an IP address lies in a network, or in one of a list.", ("in_cidr('10.1.2.3', ['10.0.0.0/8', '::1'])", "true")),
    pure("int", (&[SCALAR], "string, number or bool"), TO_INT, numbers::int,
        "The whole number that a decimal text holds; floats lose their fraction.", ("int('42') + int(2.9)", "44")),
    pure("join", (&[Kinds::LIST, TEXT], "list, string"), TO_TEXT, texts::join, "The elements as one text.", ("join(['a', 'b'], '-')", "'a-b'")),
    pure("json_text", ANY, TO_TEXT, conversions::json_text, "The value as compact JSON.", ("json_text(#{a: [1, 'x']})", r#"'{"a":[1,"x"]}'"#)),
    pure("keys", (&[Kinds::MAP], "map"), TO_TEXTS, conversions::keys, "The keys of a map, in their order.", ("keys(#{b: 1, a: 2})", "['b', 'a']")),
    pure("left", S_I, TO_TEXT, texts::left, "The first characters of a text, or all there are.", ("left('añbc', 2)", "'añ'")),
    Function { tests: true, ..pure("len", (&[SIZED], "string, bytes, list or map"), TO_INT, conversions::len,
        "Characters of a text, bytes, elements or entries.", ("len('añb')", "3")) },
    function("list", S, Returns::Scope, Run::Scope, "The entries of a `list` resource.", ("list('tiers')", "['gold', 'silver']")),
    pure("lower", S, TO_TEXT, texts::lower, "In lower case.", ("lower('ÀB')", "'àb'")),
    function("matches", (&[TEXT, TEXT], "string, LITERAL"), TO_BOOL, Run::Matches,
        "Whether a regular expression finds something; anchor it with ^ and $.", ("matches('ab12', '^[a-z]+[0-9]+$')", "true")),
    pure("max", N_N, Returns::Number, numbers::max, "The greater number.", ("max(2, 3)", "3")),
    pure("min", N_N, Returns::Number, numbers::min, "The smaller number.", ("min(2, 2.5)", "2.0")),
    function("now", (&[], ""), Returns::Is(Type::Time), Run::Now, "The time of day, UTC.", ("unix(now()) > 0", "true")),
    function("random", (&[], ""), Returns::Is(Type::Float), Run::Random, "A random float from 0 to below 1.", ("random() < 1", "true")),
    function("random_hex", (&[Kinds::INT], "int"), TO_TEXT, Run::RandomHex, "That many random bytes (16 to 1024) in hexadecimal.", ("len(random_hex(16))", "32")),
    pure("replace", (&[TEXT, TEXT, TEXT], "string, string, string"), TO_TEXT, texts::replace,
        "Every occurrence of the second text replaced by the third.", ("replace('a-b-c', '-', '_')", "'a_b_c'")),
    pure("right", S_I, TO_TEXT, texts::right, "The last characters of a text, or all there are.", ("'****' + right('4111-1234', 4) + right('ab', 9)", "'****1234ab'")),
    pure("round", N, TO_INT, numbers::round, "The nearest whole number, halves away from zero.", ("round(2.5)", "3")),
    function("secret", S, Returns::Scope, Run::Scope, "A secret of the vault.", ("secret('pepper') == 'x'", "false")),
    pure("sha256", B, TO_TEXT, conversions::sha256, "SHA-256 in lower-case hexadecimal digits.",
        ("sha256('abc')", "'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'")),
    pure("split", S_S, TO_TEXTS, texts::split, "The parts between separators; an empty separator gives the characters.", ("split('a,b', ',')", "['a', 'b']")),
    pure("starts_with", S_S, TO_BOOL, texts::starts_with, "Whether a text begins with another.", ("starts_with('/v2/x', '/v2/')", "true")),
    pure("string", ANY, TO_TEXT, conversions::string, "The value as `${...}` writes it.", ("string(1.5) + string(true)", "'1.5true'")),
    pure("trim", S, TO_TEXT, texts::trim, "Without white space at both ends.", ("trim(' a ')", "'a'")),
    pure("unix", (&[Kinds::TIME], "time"), TO_INT, numbers::unix, "Seconds since 1970-01-01T00:00:00Z.", ("unix(now()) == unix(now())", "true")),
    pure("upper", S, TO_TEXT, texts::upper, "In upper case.", ("upper('ab')", "'AB'")),
    pure("url_encode", S, TO_TEXT, texts::url_encode, "Percent-encoded but for unreserved characters (RFC 3986 §2.3).", ("url_encode('a b/c')", "'a%20b%2Fc'")),
    function("uuid", (&[], ""), TO_TEXT, Run::Uuid, "A random UUID (RFC 9562, version 4).", ("len(uuid())", "36")),
    pure("values", (&[Kinds::MAP], "map"), Returns::Elements, conversions::values, "The values of a map, in their order.", ("values(#{b: 1, a: 2})", "[1, 2]")),
    pure("xml_escape", S, TO_TEXT, texts::xml_escape, "Fit for XML text and attributes.", ("xml_escape('<a>')", "'&lt;a&gt;'")),
];

/// Functions of policy tests: a policy itself signs with steps, which keep their keys out of expressions.
#[rustfmt::skip] // A table: one entry, one line or two.
pub static OF_TESTS: &[Function] = &[
    pure("hmac_sha256", (&[BINARY, BINARY.or(Kinds::LIST)], "key, bytes, string or list"), TO_TEXT, signing::hmac_sha256,
        "HMAC-SHA-256 (RFC 2104) in lower-case hexadecimal digits; the parts of a list are joined by line feeds.",
        ("hmac_sha256('k', ['a', 'b'])", "hmac_sha256('k', join(['a', 'b'], '\n'))")),
];

/// What other languages call these functions.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("to_upper", "upper"),
    ("uppercase", "upper"),
    ("to_lower", "lower"),
    ("lowercase", "lower"),
    ("to_string", "string"),
    ("str", "string"),
    ("to_int", "int"),
    ("parse_int", "int"),
    ("number", "int"),
    ("to_float", "float"),
    ("parse_float", "float"),
    ("sub_string", "left"),
    ("substring", "left"),
    ("size", "len"),
    ("length", "len"),
    ("count", "len"),
    ("includes", "contains"),
    ("index_of", "contains"),
    ("is_present", "exists"),
    ("defined", "exists"),
    ("has", "exists"),
    ("regex", "matches"),
    ("match", "matches"),
    ("to_json", "json_text"),
    ("encode_uri_component", "url_encode"),
    ("timestamp", "now"),
    ("hash", "sha256"),
];

/// A text within its bound.
fn bounded<'x>(text: String) -> Result<Val<'x>, Failure> {
    if text.len() > TEXT_BYTES_MAX { Err(Failure::TooLarge) } else { Ok(Val::Text(Cow::Owned(text))) }
}

fn items<'x>(val: &'x Val<'_>) -> Result<Items<'x>, Failure> {
    Items::of(val).ok_or_else(|| Failure::Expected(Kinds::LIST, val.type_word()))
}

fn entries<'x>(val: &'x Val<'_>) -> Result<Entries<'x>, Failure> {
    Entries::of(val).ok_or_else(|| Failure::Expected(Kinds::MAP, val.type_word()))
}

fn wrong<'x>(expected: Kinds, got: &Val<'_>) -> Result<Val<'x>, Failure> {
    Err(Failure::Expected(expected, got.type_word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_parameters_fit() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(FUNCTIONS.iter().all(|function| function.accepts.len() <= ARGUMENTS_MAX));
        for function in FUNCTIONS {
            let written = function.parameters.split(", ").filter(|word| !word.is_empty()).count();
            assert!(written >= function.accepts.len(), "{}", function.name);
            assert!(function.doc.ends_with('.') && !function.example.0.is_empty());
        }
        for (alias, name) in ALIASES {
            assert!(named(alias).is_none() && named(name).is_some(), "{alias}");
        }
    }
}
