//! Header fields that policies write: names checked at load, values when they are made.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use http::{HeaderName, HeaderValue, header};

use crate::compile::Compile;
use crate::compile::text::{Sink, TextParam};
use crate::engine::exchange::Exchange;
use crate::engine::value::Mark;
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Diagnostic, Entries, Name, OneOrMany, Span, Text};

/// One value of a field.
#[derive(Debug)]
pub enum SetHeader {
    Fixed(HeaderValue),
    Text(TextParam),
}

impl SetHeader {
    /// The mark of what is in all of them.
    pub fn mark_of_all(values: &[SetHeader]) -> Mark {
        values.iter().fold(Mark::None, |all, value| all.joined(value.mark()))
    }

    /// The mark of what is in it.
    fn mark(&self) -> Mark {
        match self {
            SetHeader::Fixed(_) => Mark::None,
            SetHeader::Text(text) => text.facts().mark,
        }
    }

    /// The value. One with CR, LF, NUL or other controls is refused, never cleaned: it could split the
    /// message (RFC 9110 §5.5).
    pub fn render(&self, x: &Exchange, code: &'static str) -> Result<HeaderValue, Box<Fault>> {
        match self {
            SetHeader::Fixed(value) => Ok(value.clone()),
            SetHeader::Text(text) => {
                let value = text.read(x)?;
                HeaderValue::from_str(&value)
                    .map_err(|_| fault_by(text.facts().origin, code, "a header value holds control characters"))
            }
        }
    }
}

impl Compile<'_> {
    /// Compiles a map of fields.
    pub fn set_headers(
        &mut self,
        fields: Option<Entries<OneOrMany<Text>>>,
        sink: Sink,
    ) -> Option<Vec<(HeaderName, Vec<SetHeader>)>> {
        let mut all = Vec::new();
        let mut whole = !self.fields_twice(fields.iter().flat_map(|fields| fields.iter()).map(|(name, _)| name));
        for (name, values) in fields.iter().flat_map(|fields| fields.iter()) {
            let field = self.field_name(&name.name, name.span);
            let values: Option<Vec<SetHeader>> = values.iter().map(|value| self.set_header(value, sink)).collect();
            match (field, values) {
                (Some(field), Some(values)) => all.push((field, values)),
                _ => whole = false,
            }
        }
        whole.then_some(all)
    }

    /// Whether a field stands twice in a map of fields, in two spellings (RFC 9110 §5.1): one would win in silence.
    pub fn fields_twice<'n>(&mut self, names: impl IntoIterator<Item = &'n Name>) -> bool {
        let twice = fields_twice(names);
        twice.into_iter().fold(false, |_, (again, first)| {
            let message = format!("`{}` is the field `{}` once more: case does not count", again.name, first.name);
            let twice = Diagnostic::error("policy.duplicate_header", again.span, message).with_label("again here");
            let help = "keep one of the two; several values of one field are a list: `x-name: [one, two]`";
            self.report(twice.with_help(help).with_note(first.span, "first here"));
            true
        })
    }

    /// Compiles one value of a field.
    pub fn set_header(&mut self, value: &Text, sink: Sink) -> Option<SetHeader> {
        let text = self.text_into(value, Place::HeaderValue, sink)?;
        let Some(literal) = text.literal() else { return Some(SetHeader::Text(text)) };
        match HeaderValue::from_str(literal) {
            Ok(value) => Some(SetHeader::Fixed(value)),
            Err(_) => {
                let message = "a header value cannot hold line feeds or other control characters (RFC 9110 §5.5)";
                self.refuse("policy.bad_value", value.0.span(), message, "write it on one line")
            }
        }
    }

    /// A field that a policy may set.
    pub fn field_name(&mut self, name: &str, span: Span) -> Option<HeaderName> {
        let Ok(field) = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) else {
            let message = format!("`{name}` is no field name (RFC 9110 §5.1)");
            return self.refuse("policy.bad_header", span, message, "letters, digits and `-`: `x-order-version`");
        };
        if is_of_connection(&field) {
            let message = format!("`{field}` belongs to the connection or the framing: the gateway sets it");
            let help = if field == header::HOST { "use `route: { host: ... }`" } else { "remove it" };
            return self.refuse("policy.bad_header", span, message, help);
        }
        if field.as_str().contains('_') {
            let message = "many servers take `_` and `-` in field names for the same";
            return self.refuse("policy.bad_header", span, message, &format!("write `{}`", name.replace('_', "-")));
        }
        Some(field)
    }
}

/// Names of a map of fields that stand there before in another spelling, each with the first.
pub fn fields_twice<'n>(names: impl IntoIterator<Item = &'n Name>) -> Vec<(&'n Name, &'n Name)> {
    let mut known: HashMap<String, &Name> = HashMap::new();
    let again = names.into_iter().filter_map(|name| match known.entry(name.name.to_ascii_lowercase()) {
        Entry::Occupied(first) => Some((name, *first.get())),
        Entry::Vacant(free) => {
            free.insert(name);
            None
        }
    });
    again.collect()
}

/// Fields that no policy sets (RFC 9110 §7.6.1, RFC 9112 §6).
pub fn is_of_connection(name: &HeaderName) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "expect",
    ];
    NAMES.contains(&name.as_str())
}
