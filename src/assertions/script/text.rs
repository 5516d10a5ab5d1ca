//! The text of a script: where it stands, what it declares, and its errors at their places.

use crate::compile::Compile;
use crate::compile::scope::RESERVED;
use crate::engine::read::Slot;
use crate::engine::value::{Element, Facts, Mark, Origin, Type, Val, Value};
use crate::expr::Kinds;
use crate::expr::interpret::{Interpreted, script};
use crate::source::{Diagnostic, Entries, Expression, Literal, Node, Sources, Span};

use super::super::raise::own_code;

/// The code, inside of the policy file or in a file of its own.
pub(super) enum Written {
    Inside(Node),
    Beside(Span, String),
}

/// A result that a script declares.
pub(super) struct Declared {
    pub name: String,
    ty: Type,
    word: String,
    optional: bool,
    slot: Slot,
}

/// Where the lines of a script begin, for the details of faults.
pub(super) struct Places {
    file: String,
    /// Line and column of the file.
    lines: Box<[(u32, u32)]>,
}

impl Written {
    /// Finds the code.
    pub fn of(code: Option<&Expression>, file: Option<&Literal>, step: Span, cx: &mut Compile<'_>) -> Option<Written> {
        match (code, file) {
            (Some(code), None) if code.0.as_text().is_some() => Some(Written::Inside(code.0.clone())),
            (Some(code), None) => {
                let message = format!("expected the code of a script, got {}", code.0.kind());
                cx.refuse("policy.wrong_type", code.0.span(), message, "write it as a block of text: `code: |`")
            }
            (None, Some(file)) => Written::beside(file, cx),
            (Some(_), Some(file)) => {
                let message = "a script has `code` or `file`, not both";
                cx.refuse("policy.bad_value", file.span(), message, "remove one of them")
            }
            (None, None) => {
                let help = "write `script: { code: \"...\" }`, or `file: name.rhai` beside the policy file";
                cx.refuse("policy.missing_parameter", step, "`script` has no code", help)
            }
        }
    }

    fn beside(file: &Literal, cx: &mut Compile<'_>) -> Option<Written> {
        let name = cx.literal(file)?;
        let legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | '/');
        let climbs = name.split('/').any(|part| part.is_empty() || part == ".." || part == ".");
        if !name.ends_with(".rhai") || !name.chars().all(legal) || climbs {
            let message = format!("`{name}` is no name of a script's file");
            let help = "write a file beside this one, or below it, that ends in `.rhai`: `orders.rhai`";
            return cx.refuse("policy.bad_value", file.span(), message, help);
        }
        let sources = cx.around.sources;
        let own = sources.name(file.span().file);
        let beside = match own.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name,
        };
        let Some(found) = sources.named(&beside) else {
            let message = format!("there is no file {beside}");
            return cx.refuse("policy.no_script_file", file.span(), message, "put it beside this policy file");
        };
        let text = sources.text(found).to_owned();
        let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Some(Written::Beside(Span { file: found, start: 0, end }, text))
    }

    fn text(&self) -> &str {
        match self {
            Written::Inside(node) => node.as_text().unwrap_or_default(),
            Written::Beside(_, text) => text,
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        match self {
            Written::Inside(node) => node.position_of(start, end),
            Written::Beside(whole, _) => {
                let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX).min(whole.end);
                Span { file: whole.file, start: at(start), end: at(end) }
            }
        }
    }

    /// Compiles it; everything wrong is reported at its place.
    pub fn compile(&self, declared: &[Declared], cx: &mut Compile<'_>) -> Option<(Interpreted, Places)> {
        let names: Vec<&str> = declared.iter().map(|declared| declared.name.as_str()).collect();
        let compiled = match script(self.text(), &names, cx) {
            Ok(compiled) => compiled,
            Err(errors) => {
                for error in errors {
                    let span = self.span(error.at.start, error.at.end);
                    let message = crate::compile::text::clause(&error.message);
                    let diagnostic = Diagnostic::error(error.code, span, message).with_label(error.label);
                    cx.report(match error.help {
                        Some(help) => diagnostic.with_help(help),
                        None => diagnostic,
                    });
                }
                return None;
            }
        };
        let reads: Vec<_> = compiled.reads().cloned().collect();
        cx.note_reads(&reads);
        let mut legal = true;
        for (code, at) in &compiled.codes {
            legal &= own_code(code, self.span(at.start, at.end), cx).is_some();
        }
        let ty = compiled.facts.ty;
        if !Kinds::of(ty).meets(Kinds::BOOL) {
            let span = self.span(0, self.text().trim_end().len());
            let message = format!("a script answers true, false or nothing; this one ends with a {}", ty.word());
            return cx.refuse("expr.not_bool", span, message, "end it with a condition, or with a `;`");
        }
        legal.then(|| (compiled, self.places(cx.around.sources)))
    }

    fn places(&self, sources: &Sources) -> Places {
        let mut start = 0;
        let mut lines = Vec::new();
        for line in self.text().split_inclusive('\n') {
            // Blanks at the start of a line and the indentation of the file cannot be told apart: what follows them can.
            let blanks = line.len() - line.trim_start().len();
            let place = sources.place(self.span(start + blanks, start + blanks + 1));
            let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            lines.push((number(place.line), number(place.column.saturating_sub(blanks))));
            start += line.len();
        }
        Places { file: sources.name(self.span(0, 0).file).to_owned(), lines: lines.into() }
    }
}

impl Places {
    /// `file:line:column` of a place in the script.
    pub fn of(&self, (line, column): (usize, usize)) -> String {
        match line.checked_sub(1).and_then(|line| self.lines.get(line)) {
            Some((line, start)) => format!("{}:{line}:{}", self.file, *start as usize + column.saturating_sub(1)),
            None => self.file.clone(),
        }
    }
}

/// The results that `sets` declares; what is wrong with them is reported.
pub(super) fn declared(sets: &Entries<Node>, cx: &mut Compile<'_>) -> Vec<Declared> {
    let mut all = Vec::new();
    for (name, node) in sets {
        let text = name.name.as_str();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !text.starts_with(|first: char| first.is_ascii_lowercase()) || !text.bytes().all(legal) {
            let message = format!("`{text}` is no name of a variable");
            let help = "lower-case letters, digits and `_`, a letter first";
            cx.refuse::<()>("policy.bad_value", name.span, message, help);
            continue;
        }
        if RESERVED.contains(&text) || text == "out" {
            let message = format!("`{text}` is a name of the language itself");
            cx.refuse::<()>("policy.reserved_name", name.span, message, "choose another name");
            continue;
        }
        let word = node.as_text().unwrap_or_default();
        let (plain, optional) = word.strip_suffix('?').map_or((word, false), |plain| (plain, true));
        let Some(ty) = type_of(plain) else {
            let message = format!("`{word}` is no type");
            let help =
                "one of string, int, float, bool, bytes, time, url, list, map, json; with `?` it may stay absent";
            cx.refuse::<()>("policy.bad_value", node.span(), message, help);
            continue;
        };
        all.push(Declared { name: text.to_owned(), ty, word: word.to_owned(), optional, slot: Slot(0) });
    }
    all
}

fn type_of(word: &str) -> Option<Type> {
    Some(match word {
        "string" | "url" => Type::Text,
        "int" => Type::Int,
        "float" => Type::Float,
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "time" => Type::Time,
        "list" => Type::List(Element::Any),
        "map" => Type::Map(Element::Any),
        "json" => Type::Json,
        _ => return None,
    })
}

/// Makes the results variables; their origin and mark are those of everything that the script reads.
pub(super) fn set(declared: &[Declared], facts: Option<Facts>, cx: &mut Compile<'_>) -> Vec<Declared> {
    let (origin, mark) = facts.map_or((Origin::Policy, Mark::None), |facts| (facts.origin, facts.mark));
    let declare = |one: &Declared| {
        let slot = cx.variable(&one.name, Facts { ty: one.ty, absent: one.optional, origin, mark });
        Declared { name: one.name.clone(), word: one.word.clone(), slot, ..*one }
    };
    declared.iter().map(declare).collect()
}

/// The values of the declared results; else why there is none.
pub(super) fn results(declared: &[Declared], found: Vec<(String, Value)>) -> Result<Vec<(Slot, Value)>, String> {
    let mut found: std::collections::BTreeMap<String, Value> = found.into_iter().collect();
    let mut values = Vec::with_capacity(declared.len());
    for one in declared {
        let value = match found.remove(&one.name) {
            None | Some(Value::Absent) if one.optional => Value::Absent,
            None | Some(Value::Absent) => return Err(format!("out.{} is not set", one.name)),
            Some(value) => {
                let got = value.view().type_word();
                fitting(value, one.ty)
                    .ok_or_else(|| format!("out.{} is a {got}; `sets` declares {}", one.name, one.word))?
            }
        };
        values.push((one.slot, value));
    }
    Ok(values)
}

/// The value, where it is of the type; ints are floats too.
fn fitting(value: Value, ty: Type) -> Option<Value> {
    match (ty, value) {
        (Type::Float, Value::Int(int)) => Some(Value::Float(int as f64)),
        (Type::Json, value @ (Value::Bytes(_) | Value::Time(_))) => {
            drop(value);
            None
        }
        (Type::Json, value @ (Value::List(_) | Value::Map(_))) => Some(Value::from_json(value.view().to_json())),
        (ty, value) => {
            let fits = match value.view() {
                Val::Absent => false,
                val => Kinds::of(ty).meets(Kinds::of_val(&val)),
            };
            fits.then_some(value)
        }
    }
}
