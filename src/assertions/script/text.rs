//! The text of a script: where it stands, what it declares, and its errors at their places.

use crate::compile::Compile;
use crate::compile::scope::RESERVED;
use crate::engine::read::Slot;
use crate::engine::value::{Element, Facts, Mark, Origin, Type, Val, Value, with_article};
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
    /// Where the values come from that the script puts into it.
    origin: Origin,
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
                    let help = cx.plain_set(self.text(), error.code, &error.label).unwrap_or_else(|| error.cure());
                    cx.report(Diagnostic::error(error.code, span, message).with_label(error.label).with_help(help));
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
        // What is denied with may be made of all that is read, but for secrets, which `deny` does not take.
        if !compiled.codes.is_empty() && compiled.facts.mark.is_credential() {
            cx.note_fault_text(Mark::Token);
        }
        let ty = compiled.facts.ty;
        if !Kinds::of(ty).meets(Kinds::BOOL) {
            let span = self.span(0, self.text().trim_end().len());
            let message =
                format!("a script answers true, false or nothing; this one ends with {}", with_article(ty.word()));
            return cx.refuse("expr.not_bool", span, message, "end it with a condition, or with a `;`");
        }
        legal &= self.fits(&compiled, declared, cx);
        legal.then(|| (compiled, self.places(cx.around.sources)))
    }

    /// Whether each value that is put into a result can be of its type, as far as types are known.
    fn fits(&self, compiled: &Interpreted, declared: &[Declared], cx: &mut Compile<'_>) -> bool {
        let mut fits = true;
        for assigned in compiled.results.iter().filter(|assigned| assigned.whole) {
            let Some(result) = declared.iter().find(|result| result.name == assigned.name) else { continue };
            let (ty, Declared { name, word, .. }) = (assigned.facts.ty, result);
            if Kinds::of(result.ty).comparable(Kinds::of(ty)) {
                continue;
            }
            let message = format!("`sets` declares `{name}` as {word}; this is {}", with_article(ty.word()));
            let help = match result.ty {
                Type::Int | Type::Float | Type::Text => format!("write `{}(...)` around it", result.ty.word()),
                _ => format!("declare `{name}: {}`", ty.word()),
            };
            let span = self.span(assigned.at.start, assigned.at.end);
            cx.refuse::<()>("expr.type_mismatch", span, message, &help);
            fits = false;
        }
        fits
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
        let ty = type_of(plain);
        if ty.is_none() {
            let message = format!("`{word}` is no type");
            let help =
                "one of string, int, float, bool, bytes, time, url, list, map, json; with `?` it may stay absent";
            cx.refuse::<()>("policy.bad_value", node.span(), message, help);
        }
        // Declared all the same, so that what sets or reads it is not reported too.
        let ty = ty.unwrap_or(Type::Any);
        all.push(Declared {
            name: text.to_owned(),
            ty,
            word: word.to_owned(),
            optional,
            slot: Slot(0),
            origin: Origin::Policy,
        });
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

/// Makes the results variables; their mark is that of everything that the script reads, and so is their origin: what
/// was read may have decided which values they get.
pub(super) fn set(declared: &[Declared], script: Option<&Interpreted>, cx: &mut Compile<'_>) -> Vec<Declared> {
    let facts = script.map_or(Facts::policy(Type::Any), |script| script.facts);
    let declare = |one: &Declared| {
        let slot = cx.variable(&one.name, Facts { ty: one.ty, absent: one.optional, ..facts });
        cx.made_here(slot);
        let own = script.into_iter().flat_map(|script| &script.results).filter(|assigned| assigned.name == one.name);
        let origin = own.map(|assigned| assigned.facts.origin).max().unwrap_or(Origin::Policy);
        Declared { name: one.name.clone(), word: one.word.clone(), slot, origin, ..*one }
    };
    declared.iter().map(declare).collect()
}

/// The values of the declared results, of what was found of each; else whose fault it is that there is none, and why.
pub(super) fn results(
    declared: &[Declared],
    found: Vec<Option<Value>>,
) -> Result<Vec<(Slot, Value)>, (Origin, String)> {
    let mut values = Vec::with_capacity(declared.len());
    for (one, found) in declared.iter().zip(found) {
        let value = match found {
            None | Some(Value::Absent) if one.optional => Value::Absent,
            // No way through the script that was taken sets it: that is the script's own mistake.
            None => return Err((Origin::Policy, format!("out.{} is not set", one.name))),
            Some(Value::Absent) => return Err((one.origin, format!("out.{} is absent", one.name))),
            Some(value) => {
                let got = value.view().type_word();
                fitting(value, one.ty).ok_or_else(|| {
                    let got = with_article(got);
                    (one.origin, format!("out.{} is {got}; `sets` declares {}", one.name, one.word))
                })?
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
