//! The tree of a YAML document: every key and every value with its place in the file.
//!
//! Plain scalars keep the text as written, so that whoever reads a value decides what `no` or `1.10`
//! means. This file does not convert to types (see `typed`).

use std::sync::Arc;

use super::Span;
use super::alignment::Alignment;

/// A value of a YAML document. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    span: Span,
    value: NodeValue,
    is_wrong: bool,
}

/// What a [`Node`] is.
#[derive(Debug)]
pub enum NodeValue {
    /// Nothing was written (`key:`). A written `null` or `~` is a [`Scalar`]; see [`Node::is_null`].
    Null,
    /// A text, number, truth value: any leaf.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file, without duplicate keys.
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// A leaf.
#[derive(Debug)]
pub struct Scalar {
    /// The text: as written for plain scalars, decoded for the others.
    pub text: String,
    /// How it was written.
    pub style: ScalarStyle,
    alignment: Alignment,
}

/// How a scalar was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScalarStyle {
    /// Without quotes.
    Plain,
    /// `'...'`
    SingleQuoted,
    /// `"..."`
    DoubleQuoted,
    /// `|` or `>`
    Block,
}

impl Scalar {
    pub(super) fn new(text: String, style: ScalarStyle, alignment: Alignment) -> Self {
        Self { text, style, alignment }
    }

    /// Whether this is one of the plain words that mean null in the core schema (YAML 1.2.2 §10.3.2).
    fn is_null(&self) -> bool {
        self.style == ScalarStyle::Plain && matches!(self.text.as_str(), "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// A node that was not parsed but made, at the place that diagnostics shall show.
    pub fn new(span: Span, value: NodeValue) -> Self {
        Node(Arc::new(Inner { span, value, is_wrong: false }))
    }

    /// Stands for a value that is known to be wrong: whoever reads it gets nothing and reports nothing.
    fn wrong() -> Self {
        Node(Arc::new(Inner { span: Span::NOWHERE, value: NodeValue::Null, is_wrong: true }))
    }

    /// Whether a wrong value has been taken out here.
    pub(super) fn is_wrong(&self) -> bool {
        self.0.is_wrong
    }

    /// The keys below whose values have been taken out because they are wrong.
    pub(super) fn lacking(&self) -> Vec<Span> {
        let below = |node: &Node| node.lacking();
        match self.value() {
            NodeValue::List(items) => items.iter().flat_map(below).collect(),
            NodeValue::Map(entries) => {
                let own = entries.iter().filter(|entry| entry.value.is_wrong()).map(|entry| entry.key_span);
                own.chain(entries.iter().flat_map(|entry| below(&entry.value))).collect()
            }
            NodeValue::Null | NodeValue::Scalar(_) => Vec::new(),
        }
    }

    /// The same tree without the innermost values, below this node, at places where something is wrong. `None` where
    /// none of them lies below.
    pub fn without(&self, places: &[Span]) -> Option<Node> {
        let inside = |span: Span| -> Vec<Span> { places.iter().copied().filter(|one| span.contains(*one)).collect() };
        let mut is_changed = false;
        let mut less = |node: &Node, key: bool| {
            let inside = inside(node.span());
            if node.is_wrong() || inside.is_empty() && !key {
                return node.clone();
            }
            is_changed = true;
            Some(inside).filter(|_| !key).and_then(|inside| node.without(&inside)).unwrap_or_else(Node::wrong)
        };
        let value = match self.value() {
            NodeValue::List(items) => NodeValue::List(items.iter().map(|item| less(item, false)).collect()),
            NodeValue::Map(entries) => {
                let of = |entry: &Entry| !inside(entry.key_span).is_empty();
                let entry = |entry: &Entry| Entry { value: less(&entry.value, of(entry)), ..entry.clone() };
                NodeValue::Map(entries.iter().map(entry).collect())
            }
            NodeValue::Null | NodeValue::Scalar(_) => return None,
        };
        is_changed.then(|| Node::new(self.span(), value))
    }

    /// A text that was not parsed but made; quoted, so that it is text wherever it is read.
    pub fn text(span: Span, text: impl Into<String>) -> Self {
        Self::made_scalar(span, text.into(), ScalarStyle::DoubleQuoted)
    }

    /// This node with another text in its place (a resolved `${env.NAME}`). It reads as an unquoted
    /// scalar does, so that its place decides what it means.
    pub fn with_text(&self, text: impl Into<String>) -> Self {
        Self::made_scalar(self.span(), text.into(), ScalarStyle::Plain)
    }

    fn made_scalar(span: Span, text: String, style: ScalarStyle) -> Self {
        let scalar = Scalar::new(text, style, Alignment::Unknown);
        Self::new(span, NodeValue::Scalar(scalar))
    }

    /// Where the node stands. A block collection reaches from its first key or item to the end of its
    /// last; a quoted scalar includes its quotes.
    pub fn span(&self) -> Span {
        self.0.span
    }

    /// What the node is.
    pub fn value(&self) -> &NodeValue {
        &self.0.value
    }

    /// The leaf, if it is one.
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match self.value() {
            NodeValue::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar, as written if it was plain.
    pub fn as_text(&self) -> Option<&str> {
        self.as_scalar().map(|scalar| scalar.text.as_str())
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match self.value() {
            NodeValue::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match self.value() {
            NodeValue::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a mapping's key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A mapping's entry, with the place of its key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// Whether nothing, `~` or `null` is written here. A quoted `"null"` is a text.
    pub fn is_null(&self) -> bool {
        match self.value() {
            NodeValue::Null => true,
            NodeValue::Scalar(scalar) => scalar.is_null(),
            _ => false,
        }
    }

    /// What the node is, as a phrase for messages.
    pub fn kind(&self) -> &'static str {
        match self.value() {
            NodeValue::Null => "nothing",
            NodeValue::Scalar(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }

    /// The source of a part of the scalar's decoded text (byte offsets). Exact where text and source
    /// can be aligned, that is nearly always; else, or if this is no scalar, the whole node's span.
    pub fn position_of(&self, start: usize, end: usize) -> Span {
        let whole = self.span();
        let part = self.as_scalar().and_then(|scalar| scalar.alignment.source_of(start, end));
        // A final line break may stand for the end of the file, outside the span.
        part.map_or(whole, |(start, end)| Span {
            file: whole.file,
            start: start.min(whole.end),
            end: end.min(whole.end),
        })
    }

    /// An identity of this node within the running process; equal for clones.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The value for a place without a type: plain scalars by the core schema (YAML 1.2.2 §10.3.2), all
    /// other scalars as text. Numbers that JSON cannot hold (`.inf`, `.nan`) stay text.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self.value() {
            NodeValue::Null => Value::Null,
            NodeValue::Scalar(scalar) => scalar.to_json(),
            NodeValue::List(items) => items.iter().map(Node::to_json).collect(),
            NodeValue::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }
}

impl Scalar {
    fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        if self.style != ScalarStyle::Plain {
            return Value::String(self.text.clone());
        }
        match self.text.as_str() {
            _ if self.is_null() => Value::Null,
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            text => core_number(text).map_or_else(|| Value::String(text.into()), Value::Number),
        }
    }
}

/// A plain scalar as a number of the core schema: decimal, `0o17`, `0x1F`, `1.5e3`. `None` for all else.
fn core_number(text: &str) -> Option<serde_json::Number> {
    if let Some(int) = core_int(text) {
        return serde_json::Number::from_i128(int);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first_ok = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let rest_ok = digits.contains(|c: char| c.is_ascii_digit())
        && !digits.contains(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)));
    if !(first_ok && rest_ok) {
        return None;
    }
    serde_json::Number::from_f64(text.parse().ok()?)
}

/// A plain scalar as an integer of the core schema (YAML 1.2.2 §10.3.2).
pub(super) fn core_int(text: &str) -> Option<i128> {
    let unsigned = |digits: &str, radix| {
        let plain = !digits.starts_with(['+', '-']);
        plain.then(|| i128::from_str_radix(digits, radix).ok())?
    };
    if let Some(octal) = text.strip_prefix("0o") {
        return unsigned(octal, 8);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return unsigned(hex, 16);
    }
    text.parse().ok()
}
