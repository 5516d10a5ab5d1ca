//! Texts, expressions and literals of parameters, with the place of every error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::compile::Compile;
use crate::compile::flow::{Happened, Root};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Condition, StepId};
use crate::engine::read::{Read, Slot};
use crate::engine::value::{Facts, Mark, Origin, Text as SharedText, Type, Val};
use crate::expr::{self, Compiled, Place, Template, fault_by};
use crate::fault::Fault;
use crate::secret::keyed_hash;
use crate::source::{Diagnostic, Expression, Literal, Node, ScalarStyle, Span, Text};

/// Where a text flows: decides which marks it may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Into the answer: no secrets, no details of faults.
    Client,
    /// Into a record or log: no secrets, tokens only as a short hash.
    Record,
    /// Into the URL of a call, which others write into their logs: no secrets.
    Url,
    /// Upstream, into a key, a variable or a decision.
    Inside,
}

/// What the last `set_body` of the response has put into it, and where that is written.
#[derive(Clone, Copy, Debug)]
pub struct Poured {
    step: StepId,
    pub token: Option<Span>,
    /// What the client has sent, and is no credential.
    pub client: Option<Span>,
}

/// A compiled text parameter.
#[derive(Debug)]
pub struct TextParam {
    template: Template,
    /// Code of the fault where its one `${}` is absent: `assertion.absent`.
    absent: String,
}

impl TextParam {
    /// What is known of it.
    pub fn facts(&self) -> Facts {
        self.template.facts()
    }

    /// The text itself where it holds no `${}`.
    pub fn literal(&self) -> Option<&str> {
        self.template.is_literal()
    }

    /// Its variables.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The variable, where the text is exactly one and nothing else.
    pub fn variable(&self) -> Option<&Read> {
        self.template.single().and_then(Compiled::as_read)
    }

    /// Appends the text; an absent value is the step's `.absent`, by origin.
    pub fn render(&self, x: &Exchange, out: &mut String) -> Result<(), Box<Fault>> {
        if self.is_absent(x)? {
            return Err(self.absence());
        }
        self.template.render(x, out)
    }

    /// The text, borrowed from the exchange where it is one plain variable.
    pub fn read<'x>(&'x self, x: &'x Exchange) -> Result<Cow<'x, str>, Box<Fault>> {
        self.read_optional(x)?.ok_or_else(|| self.absence())
    }

    /// The same, for parameters that take an absent value.
    pub fn read_optional<'x>(&'x self, x: &'x Exchange) -> Result<Option<Cow<'x, str>>, Box<Fault>> {
        if let Some(literal) = self.template.is_literal() {
            return Ok(Some(Cow::Borrowed(literal)));
        }
        if let Some(single) = self.template.single() {
            match single.eval(x)? {
                Val::Absent => return Ok(None),
                Val::Text(text) => return Ok(Some(text)),
                _ => {}
            }
        }
        let mut text = String::new();
        self.template.render(x, &mut text)?;
        Ok(Some(Cow::Owned(text)))
    }

    /// The value with its type, where the text is exactly one `${}`; else a text. Absent stays absent.
    pub fn value<'x>(&'x self, x: &'x Exchange) -> Result<Val<'x>, Box<Fault>> {
        self.template.value(x)
    }

    /// The value for a record: absent is `null`, a token its short keyed hash. What cannot be read (a body
    /// that is no JSON) is `null` too: recording never decides about a request.
    pub fn recorded(&self, x: &Exchange) -> Json {
        let Some(single) = self.template.single() else { return Json::String(self.recorded_text(x)) };
        match single.eval(x) {
            Ok(Val::Absent) | Err(_) => Json::Null,
            Ok(value) if !single.facts.mark.is_credential() => value.to_json(),
            Ok(value) => {
                let mut text = String::new();
                let written = expr::write_text(&value, &mut text);
                written.map_or(Json::Null, |()| Json::String(keyed_hash(text.as_bytes())))
            }
        }
    }

    /// The text for a record, tokens as their short keyed hashes; where it cannot be made, why.
    pub fn recorded_text(&self, x: &Exchange) -> String {
        let mut text = String::new();
        match self.template.render_recorded(x, keyed_hash, &mut text) {
            Ok(()) => text,
            Err(fault) => format!("({})", fault.code),
        }
    }

    fn is_absent(&self, x: &Exchange) -> Result<bool, Box<Fault>> {
        match self.template.single() {
            Some(single) if single.facts.absent => Ok(single.eval(x)?.is_absent()),
            _ => Ok(false),
        }
    }

    /// The fault for an absent value.
    pub fn absence(&self) -> Box<Fault> {
        fault_by(self.facts().origin, "expression.absent", format!("{}: a value is absent", self.absent))
            .with_code(self.absent.clone())
    }
}

/// A compiled `when`, `if` or other condition.
#[derive(Debug)]
pub struct Test(pub Compiled);

impl Condition for Test {
    fn holds(&self, x: &Exchange) -> Result<bool, Box<Fault>> {
        self.0.holds(x)
    }
}

/// A sentence as the clause that messages are: no capital, no full stop.
pub fn clause(sentence: &str) -> String {
    let sentence = sentence.strip_suffix('.').unwrap_or(sentence);
    let mut characters = sentence.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

impl Compile<'_> {
    /// Compiles a text that is not for a client or a record.
    pub fn text(&mut self, text: &Text, place: Place) -> Option<TextParam> {
        self.text_into(text, place, Sink::Inside)
    }

    /// Compiles a text and checks that it may flow where it goes.
    pub fn text_into(&mut self, text: &Text, place: Place, sink: Sink) -> Option<TextParam> {
        self.text_of(&text.0, place, sink)
    }

    /// The same for a scalar node of a free structure.
    pub fn text_of(&mut self, node: &Node, place: Place, sink: Sink) -> Option<TextParam> {
        let source = node.as_text().unwrap_or_default();
        let template = match expr::template(source, place, self) {
            Ok(template) => template,
            Err(errors) => return self.expression_errors(node, errors),
        };
        let reads: Vec<Read> = template.reads().cloned().collect();
        self.note_reads(&reads);
        self.check_marks(&template, sink, node)?;
        let assertion = self.assertion();
        Some(TextParam { template, absent: format!("{assertion}.absent") })
    }

    /// Refuses a text that would carry a value to where its mark forbids.
    fn check_marks(&mut self, template: &Template, sink: Sink, node: &Node) -> Option<()> {
        if sink == Sink::Inside {
            return Some(());
        }
        if template.marks().any(|mark| mark == Mark::Secret) {
            let may_go = "secrets may go into keys, credentials and fields for the upstream";
            let (message, help) = match sink {
                Sink::Client => ("a secret would reach the client", may_go),
                Sink::Url => (
                    "a secret would stand in the URL, which others write into their logs",
                    "put it into a header field, or into the body with `secrets_to`",
                ),
                Sink::Record | Sink::Inside => ("a secret would reach a record", may_go),
            };
            let diagnostic = Diagnostic::error("policy.secret_leak", node.span(), message).with_help(help);
            let mut put = template.reads().filter_map(|read| self.flow.carried.put_of(read));
            let put_at = put.find(|(mark, _)| *mark == Mark::Secret).map(|(_, at)| at);
            self.report(match put_at {
                Some(at) => diagnostic.with_note(at, "this step puts the secret there"),
                None => diagnostic,
            });
            return None;
        }
        if sink == Sink::Client && template.marks().any(|mark| mark == Mark::Internal) {
            let message = "the detail of a fault would reach the client: it may name what is inside";
            let help = "answer with `${fault.code}` or `${fault.text}`; the record has the detail already";
            return self.refuse("policy.detail_leak", node.span(), message, help);
        }
        if sink == Sink::Client {
            self.note_poured(template, node.span());
        }
        Some(())
    }

    /// Notes what a `set_body` behind the `route` puts into the response, for who compresses it.
    fn note_poured(&mut self, template: &Template, span: Span) {
        if self.flow.routed == Happened::Never || &*self.assertion() != "set_body" {
            return;
        }
        let step = self.current();
        let mut poured =
            self.poured.filter(|poured| poured.step == step).unwrap_or(Poured { step, token: None, client: None });
        for hole in template.holes() {
            match (hole.facts.mark, hole.facts.origin) {
                (Mark::Token, _) => poured.token = poured.token.or(Some(span)),
                (_, Origin::Client) => poured.client = poured.client.or(Some(span)),
                _ => {}
            }
        }
        self.poured = Some(poured);
    }

    /// Compiles the text of a fault, which the client may read; `fault.text` is as marked.
    pub fn fault_text(&mut self, text: &Text) -> Option<TextParam> {
        let compiled = self.text_into(text, Place::Plain, Sink::Client)?;
        self.note_fault_text(compiled.facts().mark);
        Some(compiled)
    }

    /// Compiles a bare expression.
    pub fn expression(&mut self, expression: &Expression) -> Option<Compiled> {
        self.expression_of(&expression.0, false)
    }

    /// Compiles a bare condition: it must be bool. Constant conditions are a warning.
    pub fn condition(&mut self, node: &Node) -> Option<Compiled> {
        let compiled = self.expression_of(node, true)?;
        if let Some(constant) = compiled.constant {
            let message = format!("this condition is always {constant}");
            let help = "ask something of the request, or remove the condition";
            self.report(Diagnostic::warning("policy.constant_condition", node.span(), message).with_help(help));
        }
        Some(compiled)
    }

    /// Compiles a condition over the answer that a step has just received.
    pub fn answer_condition(&mut self, node: &Node) -> Option<Compiled> {
        self.answer_is_response = true;
        let compiled = self.condition(node);
        self.answer_is_response = false;
        let body = |read: &Read| matches!(read, Read::Json(_) | Read::Body(_) | Read::BodyText(_));
        if compiled.as_ref().is_some_and(|compiled| compiled.reads.iter().any(body)) {
            let message = "the answer's body has not been read yet: only `status` and `headers` can be asked for";
            return self.refuse("policy.answer_body", node.span(), message, "put a `compare` step behind the route");
        }
        compiled
    }

    /// Compiles a condition over what the step at hand has just set, as members of `answer`.
    pub fn condition_over(&mut self, node: &Node, answer: BTreeMap<SharedText, (Slot, Facts)>) -> Option<Compiled> {
        self.answer_members = Some(answer);
        let compiled = self.condition(node);
        self.answer_members = None;
        compiled
    }

    fn expression_of(&mut self, node: &Node, condition: bool) -> Option<Compiled> {
        let Some(source) = node.as_text() else {
            let message = format!("expected an expression, got {}", node.kind());
            return self.refuse("policy.wrong_type", node.span(), message, "write `request.method == 'GET'`");
        };
        if source.trim_start().starts_with("${") {
            let help =
                format!("write it without `${{}}`: {}", source.trim().trim_start_matches("${").trim_end_matches('}'));
            return self.refuse("expr.not_bare", node.span(), "an expression stands here, not a text", &help);
        }
        let compiled = if condition { expr::compile_condition(source, self) } else { expr::compile(source, self) };
        match compiled {
            Ok(compiled) => {
                let reads = compiled.reads.clone();
                self.note_reads(&reads);
                Some(compiled)
            }
            Err(errors) => self.expression_errors(node, errors),
        }
    }

    fn expression_errors<T>(&mut self, node: &Node, errors: Vec<expr::Error>) -> Option<T> {
        for error in errors {
            let span = node.position_of(error.at.start, error.at.end);
            let diagnostic =
                Diagnostic::error(error.code, span, clause(&error.message)).with_label(error.label.clone());
            let help = self.plain_set(node.as_text().unwrap_or_default(), error.code, &error.label);
            self.report(diagnostic.with_help(help.unwrap_or_else(|| error.cure())));
        }
        None
    }

    /// The cure where a number meets a variable that a plain `set` has made: `set: { sum: 0 }` makes the text "0".
    pub fn plain_set(&self, source: &str, code: &str, types: &str) -> Option<String> {
        let ty = ["int", "float"].into_iter().find(|ty| types.split(' ').any(|word| word == *ty))?;
        if code != "expr.type_mismatch" || !types.split(' ').any(|word| word == "string") {
            return None;
        }
        let mut words = source.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let is_plain = |name: &str| {
            let root = self.flow.roots.get(name);
            matches!(root, Some(Root::Value(_, facts)) if facts.ty == Type::Text && facts.origin == Origin::Policy)
        };
        let name = words.find(|word| is_plain(word))?;
        Some(format!("`{name}` was set to a text; for a number write `set: {{ {name}: {{ value: 0, type: {ty} }} }}`"))
    }

    /// Where no type says how a scalar is read, some of them are read in one way by YAML 1.1 and in another by
    /// YAML 1.2, which holds here.
    pub fn warn_of_ambiguity(&mut self, node: &Node) {
        let Some(scalar) = node.as_scalar().filter(|scalar| scalar.style == ScalarStyle::Plain) else { return };
        let text = scalar.text.as_str();
        let digits = text.trim_start_matches(['-', '+']);
        let is_octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        let (message, help) = match text.to_ascii_lowercase().as_str() {
            "yes" | "no" | "on" | "off" | "y" | "n" => (
                format!("`{text}` is a text here, no truth value"),
                "put it between quotes, or write `true` or `false`".to_owned(),
            ),
            _ if is_octal => (
                format!("`{text}` begins with a zero: some read it as a number, some as octal, some as a text"),
                format!("put it between quotes, or write `{}`", digits.trim_start_matches('0')),
            ),
            _ => return,
        };
        self.report(Diagnostic::warning("policy.ambiguous_scalar", node.span(), message).with_help(help));
    }

    /// A text without `${...}` but `${env.NAME}`, which is resolved now.
    pub fn literal(&mut self, literal: &Literal) -> Option<String> {
        self.literal_of(&literal.0)
    }

    /// The same for a scalar node.
    pub fn literal_of(&mut self, node: &Node) -> Option<String> {
        match crate::compile::scope::resolve_env(node, self.around.resources) {
            Ok(text) => Some(text.into_owned()),
            Err(diagnostic) => {
                self.report(*diagnostic);
                None
            }
        }
    }
}
