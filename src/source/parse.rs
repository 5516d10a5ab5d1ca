//! YAML text to a tree of [`Node`]s, by YAML 1.2.2 with the core schema's notions only.
//!
//! Built on an event parser, so that every key and value keeps its byte span and its style. Refused
//! with their cure: tags, anchors, aliases, merge keys, duplicate keys, directives other than
//! `%YAML 1.2`. After those the parser goes on, so that all of them are reported; after a syntax error
//! it stops, because nothing behind it can be trusted.
//!
//! Nothing is ever expanded and everything is bounded, so that a hostile file costs no more than
//! reading it (CWE-776).

use std::collections::HashMap;

use serde_yaml::granit_parser::{self as granit, Event, Parser, StructureStyle, Tag};

use super::alignment::Alignment;
use super::syntax_error;
use super::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Entry, FileId, Node, NodeValue, Scalar, ScalarStyle};
use super::{Sources, Span};

/// Collections in collections, at most.
pub const DEPTH_MAX: usize = 64;
/// Keys and values in one file, at most.
pub const NODES_MAX: usize = 250_000;
/// Bytes of one file, at most.
pub const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Mappings with more keys than this find duplicates by hash instead of by comparing.
const KEYS_COMPARED_MAX: usize = 16;

/// The documents of a file, in order; those that hold nothing are left out. Mistakes go to `diags`;
/// a document that has one is still returned if its shape is clear, a broken one and all behind it are
/// not.
pub fn parse(sources: &Sources, file: FileId, diags: &mut Diagnostics) -> Vec<Node> {
    let text = sources.text(file);
    if text.len() > FILE_BYTES_MAX {
        diags.push(too_large(file));
        return Vec::new();
    }
    if let Some(control) = control_character(file, text) {
        diags.push(control);
        return Vec::new();
    }
    let options = granit::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
    };
    let mut tree = Tree::new(file, text, diags);
    let errors_max = tree.diags.error_count() + DIAGNOSTICS_MAX;
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => tree.take(event, span),
            Err(error) => Err(Box::new(syntax_error::explain(file, text, &error))),
        };
        if let Err(diagnostic) = step {
            tree.diags.push(*diagnostic);
            break;
        }
        // More than can be shown: a bomb of anchors or the like.
        if tree.diags.error_count() >= errors_max {
            break;
        }
    }
    tree.documents
}

/// What ends the parsing of a file.
type Stop = Box<Diagnostic>;

/// The tree while it is being built.
struct Tree<'a> {
    file: FileId,
    text: &'a str,
    diags: &'a mut Diagnostics,
    documents: Vec<Node>,
    open: Vec<Open>,
    nodes: usize,
    /// Up to here the text has been seen; directives stand between this and a document's start.
    seen: u32,
}

/// A collection whose end has not come yet.
struct Open {
    span: Span,
    flow: bool,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<Key>,
        /// Key to entry; filled only once there are many keys.
        index: HashMap<String, usize>,
    },
}

/// A key that waits for its value; `None` of the name if the entry is to be left out.
struct Key {
    name: Option<String>,
    span: Span,
}

impl<'a> Tree<'a> {
    fn new(file: FileId, text: &'a str, diags: &'a mut Diagnostics) -> Self {
        Tree { file, text, diags, documents: Vec::new(), open: Vec::new(), nodes: 0, seen: 0 }
    }

    fn take(&mut self, event: Event<'_>, at: granit::Span) -> Result<(), Stop> {
        let span = self.span(&at);
        match event {
            Event::DocumentStart(..) => self.check_directives(span),
            Event::Scalar(text, style, _, tag) => {
                self.check_tag(tag.as_deref(), &at);
                let node = self.scalar(&text, style, span, tag.is_some());
                self.add(node)?;
            }
            Event::SequenceStart(style, _, tag) => {
                self.check_tag(tag.as_deref(), &at);
                let start = self.list_start(span.start, style);
                let span = Span { start, ..span };
                self.open(span, style, Content::List(Vec::new()))?;
            }
            Event::MappingStart(style, _, tag) => {
                self.check_tag(tag.as_deref(), &at);
                let content = Content::Map { entries: Vec::new(), key: None, index: HashMap::new() };
                self.open(span, style, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Anchor(_, name) => self.diags.push(refused_anchor(span, &name)),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let resolved = matches!(event, Event::Alias(_));
                let written = self.slice(span);
                self.diags.push(refused_alias(span, written, resolved));
                self.add(Node::new(span, NodeValue::Null))?;
            }
            _ => {}
        }
        self.seen = self.seen.max(span.end);
        Ok(())
    }

    fn scalar(&self, text: &str, style: granit::ScalarStyle, span: Span, tagged: bool) -> Node {
        let style = match style {
            granit::ScalarStyle::Plain => ScalarStyle::Plain,
            granit::ScalarStyle::SingleQuoted => ScalarStyle::SingleQuoted,
            granit::ScalarStyle::DoubleQuoted => ScalarStyle::DoubleQuoted,
            _ => ScalarStyle::Block,
        };
        let raw = self.slice(span);
        // The parser writes `~` for a value that is not there; a tag makes it an empty text.
        if style == ScalarStyle::Plain && raw.is_empty() && !tagged {
            return Node::new(span, NodeValue::Null);
        }
        // A block scalar's span runs to the next token.
        let shown = raw.trim_end_matches(['\n', '\r', ' ', '\t']);
        let span = match style {
            ScalarStyle::Block if !shown.is_empty() => Span { end: offset(span.start as usize + shown.len()), ..span },
            _ => span,
        };
        let alignment = Alignment::of(text, raw, span.start, style);
        let scalar = Scalar::new(text.to_owned(), style, alignment);
        Node::new(span, NodeValue::Scalar(scalar))
    }

    fn open(&mut self, span: Span, style: StructureStyle, content: Content) -> Result<(), Stop> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Box::new(too_deep(span)));
        }
        self.open.push(Open { span, flow: style == StructureStyle::Flow, content });
        Ok(())
    }

    /// A list that is not indented below its key is reported from its first item on; its hyphen stands
    /// before that.
    fn list_start(&self, start: u32, style: StructureStyle) -> u32 {
        let (before, behind) = self.text.split_at_checked(start as usize).unwrap_or_default();
        let hyphen = before.trim_end_matches(' ').strip_suffix('-');
        match hyphen {
            Some(before) if style == StructureStyle::Block && !behind.starts_with('-') => offset(before.len()),
            _ => start,
        }
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let (value, last) = match open.content {
            Content::List(items) => {
                let last = items.last().map(Node::span);
                (NodeValue::List(items), last)
            }
            Content::Map { entries, .. } => {
                let last = entries.last().map(|entry| entry.key_span.to(entry.value.span()));
                (NodeValue::Map(entries), last)
            }
        };
        // A block collection has no closing bracket: it ends with its last child.
        let last = if open.flow { Some(end) } else { last };
        let span = last.map_or(open.span, |last| open.span.to(last));
        self.add(Node::new(span, value))
    }

    /// Puts a finished node where it belongs: into the innermost open collection or among the documents.
    fn add(&mut self, node: Node) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Box::new(too_many_nodes(node.span())));
        }
        let Some(open) = self.open.last_mut() else {
            if !matches!(node.value(), NodeValue::Null) {
                self.documents.push(node);
            }
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key, index } => match key.take() {
                None => *key = Some(key_of(&node, entries, index, self.diags)),
                Some(Key { name: None, .. }) => {}
                Some(Key { name: Some(name), span }) => add_entry(entries, index, name, span, node),
            },
        }
        Ok(())
    }

    fn check_tag(&mut self, tag: Option<&Tag>, at: &granit::Span) {
        if tag.is_some() {
            let span = at.tag_span().map_or(self.span(at), |tag| self.span(&tag));
            let rest = self.text.get(span.start as usize..).unwrap_or("");
            let value = rest.lines().next().unwrap_or("").trim_end();
            self.diags.push(refused_tag(span, self.slice(span), value));
        }
    }

    /// Directives give no events of their own: looks for them in the text before a document's start.
    fn check_directives(&mut self, start: Span) {
        let before = self.text.get(self.seen as usize..start.start as usize);
        let mut at = self.seen as usize;
        for line in before.unwrap_or("").split_inclusive('\n') {
            let mut words = line.split_ascii_whitespace();
            let is_yaml_1_2 = words.next() == Some("%YAML") && words.next() == Some("1.2");
            if line.starts_with('%') && !is_yaml_1_2 {
                let span = Span { file: self.file, start: offset(at), end: offset(at + line.trim_end().len()) };
                self.diags.push(
                    Diagnostic::error(
                        "yaml.directive",
                        span,
                        format!("the directive `{}` is not supported", line.trim_end()),
                    )
                    .with_help("remove the line; the files are YAML 1.2 without tags"),
                );
            }
            at += line.len();
        }
    }

    /// The bytes of an event, held inside the text whatever the parser counted.
    fn span(&self, at: &granit::Span) -> Span {
        let start = at.start.byte_offset().unwrap_or(0);
        let end = at.end.byte_offset().unwrap_or(start).max(start);
        Span {
            file: self.file,
            start: offset(self.text.floor_char_boundary(start)),
            end: offset(self.text.floor_char_boundary(end)),
        }
    }

    fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }
}

/// A node in the place of a key. The key that cannot be used is reported and its entry left out.
fn key_of(node: &Node, entries: &[Entry], index: &HashMap<String, usize>, diags: &mut Diagnostics) -> Key {
    let span = node.span();
    let refused = Key { name: None, span };
    let Some(scalar) = node.as_scalar() else {
        diags.push(refused_key(node));
        return refused;
    };
    if scalar.text == "<<" && scalar.style == ScalarStyle::Plain {
        diags.push(Diagnostic::error("yaml.merge_key", span, "merge keys (`<<`) are not supported").with_help(
            "to share steps write a `fragment:` and `include:` it, or give all services steps \
                     with `defaults:`",
        ));
        return refused;
    }
    let earlier = if entries.len() > KEYS_COMPARED_MAX {
        index.get(&scalar.text).and_then(|at| entries.get(*at))
    } else {
        entries.iter().find(|entry| entry.key == scalar.text)
    };
    if let Some(earlier) = earlier {
        diags.push(
            Diagnostic::error(
                "yaml.duplicate_key",
                span,
                format!("the key `{}` stands twice in this mapping", scalar.text),
            )
            .with_label("again here")
            .with_help("keep one of the two; if both were meant, make it one value or a list")
            .with_note(earlier.key_span, "first here"),
        );
        return refused;
    }
    Key { name: Some(scalar.text.clone()), span }
}

fn add_entry(entries: &mut Vec<Entry>, index: &mut HashMap<String, usize>, key: String, key_span: Span, value: Node) {
    if entries.len() == KEYS_COMPARED_MAX {
        let known = entries.iter().enumerate();
        index.extend(known.map(|(at, entry)| (entry.key.clone(), at)));
    }
    if entries.len() >= KEYS_COMPARED_MAX {
        index.insert(key.clone(), entries.len());
    }
    entries.push(Entry { key, key_span, value });
}

fn refused_key(node: &Node) -> Diagnostic {
    let help = match node.value() {
        NodeValue::Map(_) => "a key that begins with `{` must stand in quotes: `\"{name}\": ...`",
        NodeValue::List(_) => "a key that begins with `[` must stand in quotes: `\"[name]\": ...`",
        _ => "write the key before the colon; an empty text is written `\"\"`",
    };
    let message = format!("a key must be text, this one is {}", node.kind());
    Diagnostic::error("yaml.key", node.span(), message).with_help(help)
}

fn refused_anchor(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error("yaml.anchor", span, format!("anchors (`&{name}`) are not supported")).with_help(
        "to share steps write a `fragment:` and `include:` it, or give all services steps with \
         `defaults:`; if text was meant that begins with `&`, put it in quotes",
    )
}

fn refused_alias(span: Span, written: &str, resolved: bool) -> Diagnostic {
    let message = format!("aliases (`{written}`) are not supported");
    let diagnostic = Diagnostic::error("yaml.alias", span, message);
    let share = "to share steps write a `fragment:` and `include:` it, or give all services steps with \
                 `defaults:`";
    let quote = format!("text that begins with `*` must stand in quotes: `\"{written}\"`");
    let is_word = !written.contains(|c: char| !c.is_alphanumeric() && !"*_-".contains(c));
    diagnostic.with_help(match (resolved, is_word) {
        (true, _) => share.to_owned(),
        (false, true) => format!("{share}; {quote}"),
        (false, false) => quote,
    })
}

fn refused_tag(span: Span, written: &str, value: &str) -> Diagnostic {
    let help = if written.starts_with("!!") {
        "remove the tag: types follow from the place".to_owned()
    } else {
        format!("text or an expression that begins with `!` must stand in quotes: {}", syntax_error::quoted(value))
    };
    let message = format!("tags (`{written}`) are not supported");
    Diagnostic::error("yaml.tag", span, message).with_help(help)
}

pub(super) fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("yaml.depth", span, format!("lists and mappings are nested deeper than {DEPTH_MAX}"))
        .with_help("move the inner part into a `fragment:` and `include:` it")
}

fn too_many_nodes(span: Span) -> Diagnostic {
    Diagnostic::error("yaml.too_many_nodes", span, format!("the file holds more than {NODES_MAX} keys and values"))
        .with_help("split it into several files")
}

pub(super) fn too_large(file: FileId) -> Diagnostic {
    let message = format!("the file has more than {FILE_BYTES_MAX} bytes");
    Diagnostic::error("yaml.too_large", file_start(file), message).with_help("split it into several files")
}

pub(super) fn not_utf8(file: FileId, at: usize, bytes: &[u8]) -> Diagnostic {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let message = if utf16 { "the file is UTF-16, expected UTF-8" } else { "the file is not UTF-8" };
    let span = Span { file, start: offset(at), end: offset(at + '\u{fffd}'.len_utf8()) };
    Diagnostic::error("yaml.not_utf8", span, message)
        .with_label("first bytes that are not UTF-8")
        .with_help("save the file with the encoding UTF-8")
}

/// Control characters are no part of YAML (YAML 1.2.2 §5.1): the line breaks and tab excepted, text
/// that a terminal would act on (CWE-150) never comes in.
fn control_character(file: FileId, text: &str) -> Option<Diagnostic> {
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let (at, found) = text.char_indices().find(|(_, c)| control(*c))?;
    let span = Span { file, start: offset(at), end: offset(at + found.len_utf8()) };
    let code = u32::from(found);
    Some(
        Diagnostic::error(
            "yaml.control_character",
            span,
            format!("the control character U+{code:04X} must not stand in a file"),
        )
        .with_help(format!("remove it, or write it as an escape in double quotes: `\"\\u{code:04X}\"`")),
    )
}

fn file_start(file: FileId) -> Span {
    Span { file, start: 0, end: 0 }
}

/// A byte offset of a file, whose size [`FILE_BYTES_MAX`] bounds.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
