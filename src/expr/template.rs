//! Texts that hold `${...}`.
//!
//! A text is cut into literal parts and expressions once, when the policy loads; what stands in its place is
//! escaped for it. `$${` writes a literal `${`.

use std::borrow::Cow;
use std::fmt;

use crate::engine::read::{Read, Reader};
use crate::engine::value::{Facts, Mark, Text, Type, Val, Value};
use crate::expr::check::may_be_absent;
use crate::expr::escape::has_dot_segment;
use crate::expr::failure::Failure;
use crate::expr::{
    Compiled, Error, NotText, Place, Scope, TEMPLATE_BYTES_MAX, TEXT_BYTES_MAX, compile, escape, fault_by, write_text,
};
use crate::fault::Fault;

/// A text, ready to be written.
pub struct Template {
    parts: Box<[Part]>,
    place: Place,
    facts: Facts,
    reads: Vec<Read>,
}

enum Part {
    Literal(Text),
    Hole(Compiled),
}

/// A piece of the source, with its offset.
enum Piece<'t> {
    Literal(String),
    Hole(usize, &'t str),
}

/// Compiles a text for a place. Ranges of errors are offsets in `text`.
pub fn template(text: &str, place: Place, scope: &mut dyn Scope) -> Result<Template, Vec<Error>> {
    if text.len() > TEMPLATE_BYTES_MAX {
        let message = format!("A text has at most {TEMPLATE_BYTES_MAX} bytes; this one has {}.", text.len());
        return Err(vec![Error::new("expr.too_long", 0..0, message, "too long")]);
    }
    let pieces = cut(text).map_err(|error| vec![error])?;
    let longer = pieces.len() > 1;
    let (mut parts, mut errors) = (Vec::with_capacity(pieces.len()), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => parts.push(Part::Literal(literal.into())),
            Piece::Hole(offset, source) => match compile(source, scope) {
                Ok(compiled) if longer && compiled.facts.absent => {
                    let trimmed = source.trim();
                    let start = offset + source.find(trimmed).unwrap_or(0);
                    errors.push(may_be_absent(text, start..start + trimmed.len(), compiled.facts.ty, false));
                }
                Ok(compiled) => parts.push(Part::Hole(compiled)),
                Err(found) => errors.extend(found.into_iter().map(|error| shifted(error, offset))),
            },
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Template { facts: facts(&parts), reads: reads(&parts), parts: parts.into(), place })
}

fn shifted(mut error: Error, offset: usize) -> Error {
    error.at = error.at.start + offset..error.at.end + offset;
    error
}

fn facts(parts: &[Part]) -> Facts {
    match parts {
        [Part::Hole(compiled)] => compiled.facts,
        parts => parts.iter().fold(Facts::policy(Type::Text), |facts, part| match part {
            Part::Literal(_) => facts,
            Part::Hole(compiled) => facts.mixed(compiled.facts),
        }),
    }
}

fn reads(parts: &[Part]) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for part in parts {
        if let Part::Hole(compiled) = part {
            for read in &compiled.reads {
                if !reads.contains(read) {
                    reads.push(read.clone());
                }
            }
        }
    }
    reads
}

fn cut(text: &str) -> Result<Vec<Piece<'_>>, Error> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find("${")) {
        let dollar = at + found;
        let before = text.get(at..dollar).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            literal.push_str(before);
            literal.push_str("${");
            at = dollar + 2;
            continue;
        }
        literal.push_str(before);
        let start = dollar + 2;
        let inside = text.get(start..).unwrap_or_default();
        let Some(length) = hole_length(inside) else {
            let message = "A `${` begins here, and no `}` closes it.";
            return Err(Error::new("expr.unclosed", dollar..start, message, "not closed")
                .with_help("close it with `}`; a literal `${` is written `$${`"));
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Hole(start, inside.get(..length).unwrap_or_default()));
        at = start + length + 1;
    }
    literal.push_str(text.get(at..).unwrap_or_default());
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// Bytes up to the `}` that closes a hole; braces and quotes inside are stepped over.
fn hole_length(inside: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, char) in inside.char_indices() {
        match (quote, char) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == char => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(char),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

impl Template {
    /// What is known of its value: of the expression itself where it is exactly one.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Every read in it, each once.
    pub fn reads(&self) -> impl Iterator<Item = &Read> {
        self.reads.iter()
    }

    /// The text, where it holds no `${...}`.
    pub fn is_literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The expression, where the text is exactly one `${...}`: it keeps its type and may be absent.
    pub fn single(&self) -> Option<&Compiled> {
        match &*self.parts {
            [Part::Hole(compiled)] => Some(compiled),
            _ => None,
        }
    }

    /// All of its expressions, in their order.
    pub fn holes(&self) -> impl Iterator<Item = &Compiled> {
        self.parts.iter().filter_map(|part| if let Part::Hole(compiled) = part { Some(compiled) } else { None })
    }

    /// Appends the text, escaped for its place. An absent value is a fault `expression.absent`.
    pub fn render<R: Reader + ?Sized>(&self, on: &R, out: &mut String) -> Result<(), Box<Fault>> {
        let start = out.len();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Hole(compiled) => self.write(compiled, &compiled.eval(on)?, out)?,
            }
            if self.parts.len() > 1 && out.len() - start > TEXT_BYTES_MAX {
                return Err(Failure::TooLarge.fault(self.facts.origin));
            }
        }
        if self.place.is_path() && self.is_literal().is_none() && has_dot_segment(out.get(start..).unwrap_or_default())
        {
            // A caller who may choose `..` would leave the part of the upstream that the policy opened.
            let detail = "a value makes a segment `.` or `..` in a URL path";
            return Err(fault_by(self.facts.origin, "expression.path", detail));
        }
        Ok(())
    }

    fn write(&self, compiled: &Compiled, val: &Val<'_>, out: &mut String) -> Result<(), Box<Fault>> {
        let result = match val {
            Val::Text(text) => {
                escape(self.place, text, out);
                Ok(())
            }
            val if self.place.is_raw() => write_text(val, out),
            val => {
                let mut text = String::new();
                write_text(val, &mut text).map(|()| escape(self.place, &text, out))
            }
        };
        result.map_err(|why| match why {
            NotText::Absent => fault_by(compiled.facts.origin, "expression.absent", "a value of the text is absent"),
            NotText::Bytes => Failure::NotText(why).fault(compiled.facts.origin),
        })
    }

    /// Marks of its values, one by one: a record shows each for itself.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.holes().map(|hole| hole.facts.mark)
    }

    /// Appends the text for a record: in the place of a credential stands its `hash`.
    pub fn render_recorded<R: Reader + ?Sized>(
        &self,
        on: &R,
        hash: fn(&[u8]) -> String,
        out: &mut String,
    ) -> Result<(), Box<Fault>> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Hole(compiled) if !compiled.facts.mark.is_credential() => {
                    self.write(compiled, &compiled.eval(on)?, out)?;
                }
                Part::Hole(compiled) => {
                    let mut marked = String::new();
                    self.write(compiled, &compiled.eval(on)?, &mut marked)?;
                    out.push_str(&hash(marked.as_bytes()));
                }
            }
        }
        Ok(())
    }

    /// Appends the text as bytes; where it is exactly one `${...}` in a plain place, bytes stay what they are.
    pub fn render_bytes<R: Reader + ?Sized>(&self, on: &R, out: &mut Vec<u8>) -> Result<(), Box<Fault>> {
        let mut text = String::new();
        match self.single() {
            Some(compiled) if self.place == Place::Plain => match compiled.eval(on)? {
                Val::Bytes(bytes) => out.extend_from_slice(&bytes),
                val => self.write(compiled, &val, &mut text)?,
            },
            _ => self.render(on, &mut text)?,
        }
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// The value: typed where the text is exactly one `${...}` (not escaped, may be absent), else a text.
    pub fn value<'x, R: Reader + ?Sized>(&'x self, on: &'x R) -> Result<Val<'x>, Box<Fault>> {
        match &*self.parts {
            [] => Ok(Val::Text(Cow::Borrowed(""))),
            [Part::Literal(text)] => Ok(Val::Text(Cow::Borrowed(text))),
            [Part::Hole(compiled)] => compiled.eval(on),
            _ => {
                let mut text = String::new();
                self.render(on, &mut text)?;
                Ok(Val::Text(Cow::Owned(text)))
            }
        }
    }

    /// The value, where it is known at load: a literal text, or one made of `env.NAME` and its like.
    pub fn known(&self) -> Option<Value> {
        if let Some(text) = self.is_literal() {
            return Some(Value::text(text));
        }
        if let Some(compiled) = self.single() {
            return compiled.known().cloned();
        }
        self.holes().all(|compiled| compiled.known().is_some()).then_some(())?;
        let mut text = String::new();
        self.render(&crate::expr::compiled::Nothing, &mut text).ok()?;
        Some(Value::text(text))
    }
}

/// Constants may be secrets: only what the compiler knows is printed.
impl fmt::Debug for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Template")
            .field("facts", &self.facts)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}
