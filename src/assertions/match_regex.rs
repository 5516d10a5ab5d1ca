//! `match_regex`: denies unless, or if, a text matches a pattern or holds a word of a list.
//!
//! Linear-time engine: no look-around, no back references, no pattern made of a client's text. Words of a
//! list are compared after NFKC and case folding. Positions are counted in characters.

mod words;

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use self::words::{Unusable, Words};
use crate::compile::message::Message;
use crate::compile::pattern::{Pattern, PatternFlags};
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::value::{Element, Facts, Mark, Origin, Type, Value};
use crate::expr::Place;
use crate::fault::Fault;
use crate::source::{Literal, Name, Span, Spanned, Text};

/// Members of `match` that no named group may take.
const OWN_MEMBERS: [&str; 3] = ["text", "start", "groups"];

pub const KIND: Kind = Kind {
    main: Some("pattern"),
    bodies: "buffer, where it reads one",
    sets: &[
        Output {
            name: "match.text",
            ty: Type::Text,
            absent: false,
            doc: "What matched. With `words` the word after NFKC and case folding. Nothing is set with `expect: no_match`; named groups of the pattern are `match.NAME` beside it.",
        },
        Output { name: "match.start", ty: Type::Int, absent: false, doc: "Characters before it." },
        Output {
            name: "match.groups",
            ty: Type::List(Element::Any),
            absent: false,
            doc: "The groups of the pattern from the first; absent where one took no part.",
        },
    ],
    faults: &[
        FaultDoc {
            code: "match_regex.no_match",
            status: 400,
            doc: "The text does not match. Another status where the step says so.",
        },
        FaultDoc {
            code: "match_regex.match",
            status: 400,
            doc: "The text matches, and the step expects that it does not. Another status where the step says so.",
        },
        FaultDoc {
            code: "match_regex.not_text",
            status: 400,
            doc: "The value or body is bytes that are no UTF-8. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "match_regex.absent",
            status: 400,
            doc: "`value` is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "The parts of an order number",
            yaml: r#"
service: example
match: { path: "/orders/{number}" }
policy:
  - match_regex:
      pattern: "(?<year>[0-9]{4})-(?<serial>[0-9]+)(?:-(?<part>[a-z]))?"
      value: "${path.number}"
      anchor: full
      status: 404
  - respond: { json: { year: "${match.year}", serial: "${int(match.serial)}", part: "${match.part ?? 'none'}" } }
tests:
  - name: a number
    request: { path: /orders/2026-17 }
    expect: { status: 200, json: { year: "2026", serial: 17, part: none } }
  - name: something else
    request: { path: /orders/2026-17-B }
    expect: { status: 404, fault: match_regex.no_match }
"#,
        },
        Example {
            title: "No names of clients leave",
            yaml: r#"
list: client_names
entries: [Acme Corp, "Müller & Söhne"]
---
service: example
match: { path: /chat, methods: [POST] }
policy:
  - match_regex: { words: client_names, value: "${request.json.text ?? ''}", expect: no_match, status: 403 }
  - route: http://127.0.0.1:9000
tests:
  given: { upstream: [{ answer: { text: ok } }] }
  cases:
    - name: nothing of the list
      request: { json: { text: "what is an acme corporation?" } }
      expect: { status: 200 }
    - name: a name in another spelling
      request: { json: { text: "write to MÜLLER &  SÖHNE" } }
      expect: { status: 403, fault: match_regex.match, upstream: none }
    - name: no text at all
      request: { json: {} }
      expect: { status: 200 }
"#,
        },
    ],
    ..Kind::of::<MatchRegex>("match_regex", "Denies unless (or if) text matches a pattern.", Category::Messages)
};

/// Parameters of `match_regex`. Exactly one of `pattern` and `words`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MatchRegex {
    /// A regular expression of Rust's `regex` crate.
    #[serde(default)]
    pattern: Option<Literal>,
    /// Name of a `list`: its entries are looked for as whole words, after NFKC and case folding.
    #[serde(default)]
    words: Option<Name>,
    /// The text that is looked at; the body of `message` without it.
    #[serde(default)]
    value: Option<Text>,
    /// Whose body, where `value` is left out.
    #[serde(default)]
    message: Option<Spanned<Message>>,
    /// What lets it pass.
    #[serde(default)]
    expect: Expect,
    /// Letters match without case.
    #[serde(default)]
    ignore_case: bool,
    /// `^` and `$` match at lines.
    #[serde(default)]
    multi_line: bool,
    /// `.` matches a line feed too.
    #[serde(default)]
    dot_all: bool,
    /// Whether the match may stand anywhere.
    #[serde(default)]
    anchor: Anchor,
    /// Status of the denial, 400 without it.
    #[serde(default)]
    status: Option<Literal>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Expect {
    #[default]
    Match,
    NoMatch,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Anchor {
    /// Anywhere in the text.
    #[default]
    Search,
    /// The whole text.
    Full,
}

impl Assertion for MatchRegex {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let status = match &self.status {
            None => Some(StatusCode::BAD_REQUEST),
            Some(literal) => cx.denied_status(literal),
        };
        let wanted = self.wanted(step.span, cx);
        let (subject, facts) = self.subject(step.span, cx)?;
        let (wanted, status) = (wanted?, status?);
        let slots = match self.expect {
            Expect::NoMatch => None,
            Expect::Match => Some(Slots::declare(&wanted, facts, step, cx, self.pattern.as_ref())?),
        };
        Compiled::plain(MatchRegexStep { wanted, subject, slots, status })
    }
}

impl MatchRegex {
    fn wanted(&self, span: Span, cx: &mut Compile<'_>) -> Option<Wanted> {
        let full = self.anchor == Anchor::Full;
        match (&self.pattern, &self.words) {
            (Some(pattern), None) => {
                let (ignore_case, multi_line, dot_all) = (self.ignore_case, self.multi_line, self.dot_all);
                let flags = PatternFlags { ignore_case, multi_line, dot_all, full };
                cx.pattern(pattern, flags).map(Wanted::Pattern)
            }
            (None, Some(words)) if full || self.ignore_case || self.multi_line || self.dot_all => {
                let message = "`anchor`, `ignore_case`, `multi_line` and `dot_all` are for `pattern`";
                let help = "remove them: words are found anywhere, and always without case";
                cx.refuse("policy.bad_value", words.span, message, help)
            }
            (None, Some(words)) => self.words(words, cx).map(Wanted::Words),
            (Some(_), Some(words)) => {
                let message = "`pattern` and `words` exclude each other";
                cx.refuse("policy.bad_value", words.span, message, "keep one of them")
            }
            (None, None) => {
                let help = "write `pattern: \"^[a-z]+$\"`, or `words: NAME` of a list";
                cx.refuse("policy.missing_parameter", span, "nothing is looked for", help)
            }
        }
    }

    fn words(&self, name: &Name, cx: &mut Compile<'_>) -> Option<Words> {
        let list: Arc<[Value]> = cx.resource("list", name, |resources| &resources.lists)?;
        let entries = list.iter().filter_map(|entry| match entry {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        });
        let (message, help) = match Words::new(entries) {
            Ok(words) => return Some(words),
            Err(Unusable::Blank(entry)) => {
                (format!("the list holds an entry without a visible character: {entry:?}"), "remove that entry")
            }
            Err(Unusable::TooLarge(error)) => (format!("the list is too large: {error}"), "split the list"),
        };
        cx.refuse("policy.bad_value", name.span, message, help)
    }

    /// The text that is looked at, and what is known of it.
    fn subject(&self, span: Span, cx: &mut Compile<'_>) -> Option<(Subject, Facts)> {
        let Some(value) = &self.value else {
            let span = self.message.as_ref().map_or(span, |message| message.span);
            let side = cx.side(self.message.map(|message| message.value), span)?;
            cx.need_body(side);
            let origin = if side == Side::Request { Origin::Client } else { Origin::Upstream };
            let facts = Facts::policy(Type::Text).marked(cx.flow.carried.body(side));
            refuse_secret(facts, span, cx)?;
            return Some((Subject::Body(side), Facts { origin, ..facts }));
        };
        if let Some(message) = &self.message {
            let help = "remove one of them";
            return cx.refuse("policy.bad_value", message.span, "`message` is for the body, `value` is given", help);
        }
        let text = cx.text(value, Place::Plain)?;
        let facts = text.facts();
        refuse_secret(facts, value.span(), cx)?;
        if let Some(read) = text.variable() {
            cx.flow.prove(read.clone());
        }
        Some((Subject::Text(text), facts))
    }
}

fn refuse_secret(facts: Facts, span: Span, cx: &mut Compile<'_>) -> Option<()> {
    if facts.mark != Mark::Secret {
        return Some(());
    }
    let message = "the time of a search would tell of the secret";
    cx.refuse("expr.marked_order", span, message, "compare secrets with `==` or `compare`")
}

enum Wanted {
    Pattern(Pattern),
    Words(Words),
}

enum Subject {
    Text(TextParam),
    Body(Side),
}

/// Where a match is kept.
struct Slots {
    text: Slot,
    start: Slot,
    groups: Slot,
    /// Number of a named group, and its variable.
    named: Vec<(usize, Slot)>,
}

impl Slots {
    fn declare(
        wanted: &Wanted,
        value: Facts,
        step: &Step<'_>,
        cx: &mut Compile<'_>,
        written: Option<&Literal>,
    ) -> Option<Slots> {
        let facts = |ty| Facts { ty, absent: false, ..value };
        let renamed = step.renamed();
        let mut slots = Slots {
            text: cx.out_with("match.text", renamed, facts(Type::Text)),
            start: cx.out_with("match.start", renamed, facts(Type::Int)),
            groups: cx.out_with("match.groups", renamed, facts(Type::List(Element::Any))),
            named: Vec::new(),
        };
        let Wanted::Pattern(pattern) = wanted else { return Some(slots) };
        for (name, number, always) in pattern.named_groups() {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if OWN_MEMBERS.contains(&name) || !name.bytes().all(legal) {
                let message = format!("a group cannot be called `{name}`: it would be `match.{name}`");
                let help = "name it with letters, digits and `_`, but not `text`, `start` or `groups`";
                return cx.refuse("policy.reserved_name", written.map_or(step.span, Literal::span), message, help);
            }
            let facts = Facts { absent: !always, ..facts(Type::Text) };
            slots.named.push((number, cx.out_with(&format!("match.{name}"), renamed, facts)));
        }
        Some(slots)
    }
}

struct MatchRegexStep {
    wanted: Wanted,
    subject: Subject,
    /// `None` where no match is expected.
    slots: Option<Slots>,
    status: StatusCode,
}

impl Plain for MatchRegexStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.search(x).into()
    }
}

impl MatchRegexStep {
    fn search(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let text = self.subject.read(x).map_err(|fault| match fault.code.as_ref() {
            "expression.not_text" | "body.not_text" => fault.with_code("match_regex.not_text"),
            _ => fault,
        })?;
        let Some(slots) = &self.slots else {
            return match self.wanted.stands_in(&text) {
                false => Ok(()),
                true => Err(Fault::denied(self.status, "match_regex.match", "the text matches")),
            };
        };
        let Some(found) = self.wanted.find(&text) else {
            return Err(Fault::denied(self.status, "match_regex.no_match", "the text does not match"));
        };
        drop(text);
        for (number, slot) in &slots.named {
            x.set(*slot, number.checked_sub(1).and_then(|at| found.groups.get(at)).cloned().unwrap_or_default());
        }
        x.set(slots.text, Value::text(found.text));
        x.set(slots.start, Value::Int(i64::try_from(found.start).unwrap_or(i64::MAX)));
        x.set(slots.groups, Value::List(found.groups.into()));
        Ok(())
    }
}

impl Subject {
    fn read<'x>(&'x self, x: &'x Exchange) -> Result<Cow<'x, str>, Box<Fault>> {
        match self {
            Subject::Text(text) => text.read(x),
            Subject::Body(side) => x.body_as_text(*side).map(Cow::Borrowed),
        }
    }
}

/// What was found, in values of its own.
struct Found {
    text: String,
    start: usize,
    groups: Vec<Value>,
}

impl Wanted {
    fn stands_in(&self, text: &str) -> bool {
        match self {
            Wanted::Pattern(pattern) => pattern.regex.is_match(text),
            Wanted::Words(words) => words.stand_in(text),
        }
    }

    fn find(&self, text: &str) -> Option<Found> {
        let pattern = match self {
            Wanted::Pattern(pattern) => pattern,
            Wanted::Words(words) => {
                let found = words.find(text)?;
                return Some(Found { text: found.text, start: found.start, groups: Vec::new() });
            }
        };
        let captures = pattern.regex.captures(text)?;
        let whole = captures.get(0)?;
        let group = |group: Option<regex::Match<'_>>| group.map_or(Value::Absent, |group| Value::text(group.as_str()));
        Some(Found {
            text: whole.as_str().to_owned(),
            start: text.get(..whole.start()).map_or(0, |before| before.chars().count()),
            groups: captures.iter().skip(1).map(group).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, codes, refusals, refusals_of, service};

    fn matching(params: &str) -> String {
        format!("  - match_regex: {{ {params} }}\n  - respond: {{ status: 204 }}")
    }

    #[test]
    fn a_body_is_looked_at_where_no_value_is_given() {
        let trial = Trial::of("  - match_regex: \"^a+$\"\n  - respond: { text: \"${match.text} ${match.start}\" }");
        assert_eq!(trial.send("POST", "/", &[], "aaa").body, "aaa 0");
        assert_eq!(trial.send("POST", "/", &[], "aab").fault.as_deref(), Some("match_regex.no_match"));
        let outcome = trial.send_bytes("POST", "/", &[], b"\xff");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("match_regex.not_text")));
        let steps = "  - route: http://127.0.0.1:9000\n  - match_regex: b";
        let outcome = Trial::of(steps).answering_bytes(&[], b"\xff").get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("match_regex.not_text")));
        let steps = "  - route: http://127.0.0.1:9000\n  - match_regex: { pattern: b, status: 404 }";
        let outcome = Trial::of(steps).answering(&[], "aaa").get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (404, Some("match_regex.no_match")));
    }

    #[test]
    fn positions_are_characters_and_groups_that_took_no_part_are_absent() {
        let steps = "  - match_regex: { pattern: \"(b)(x)?(?<last>c)\", value: \"${request.text}\" }
  - respond: { json: { start: \"${match.start}\", groups: \"${match.groups}\", last: \"${match.last}\" } }";
        let outcome = Trial::of(steps).send("POST", "/", &[], "äöbc");
        assert_eq!(outcome.body, r#"{"start":2,"groups":["b",null,"c"],"last":"c"}"#);
    }

    #[test]
    fn flags_and_statuses_do_what_they_say() {
        let status = |params: &str, body| Trial::of(&matching(params)).send("POST", "/", &[], body).status;
        assert_eq!(status("pattern: ABC, ignore_case: true", "xabcx"), 204);
        assert_eq!(status("pattern: ABC", "xabcx"), 400);
        assert_eq!(status("pattern: ^b$, multi_line: true", "a\nb"), 204);
        assert_eq!(status("pattern: ^b$", "a\nb"), 400);
        assert_eq!(status("pattern: a.b, dot_all: true", "a\nb"), 204);
        assert_eq!(status("pattern: a.b", "a\nb"), 400);
        assert_eq!(status("pattern: a, anchor: full", "aa"), 400);
        assert_eq!(status("pattern: a, expect: no_match, status: 422", "aa"), 422);
        assert_eq!(status("pattern: b, expect: no_match", "aa"), 204);
    }

    #[test]
    fn an_absent_value_is_a_fault_of_its_own_and_a_match_proves_it() {
        let steps = "  - match_regex: { pattern: a, value: \"${request.query.q}\" }
  - respond: { text: \"${request.query.q}\" }";
        let trial = Trial::of(steps);
        assert_eq!(trial.get("/").fault.as_deref(), Some("match_regex.absent"));
        assert_eq!(trial.get("/?q=bar").body, "bar");
    }

    #[test]
    fn what_cannot_work_does_not_load() {
        let wrong = [
            ("pattern: \"(?=a)\"", "expr.bad_regex"),
            ("pattern: \"(?<text>a)\"", "policy.reserved_name"),
            ("pattern: a, words: names", "policy.bad_value"),
            ("pattern: a, value: b, message: request", "policy.bad_value"),
            ("pattern: a, status: 500", "policy.bad_value"),
            ("words: names", "policy.unknown_name"),
            ("expect: match", "policy.missing_parameter"),
            ("pattern: \"${request.path}\"", "policy.not_literal"),
        ];
        for (params, code) in wrong {
            assert_eq!(refusals(&matching(params)), [code], "{params}");
        }
        let list = "list: names\nentries: [a]\n---\n";
        let full = format!("{list}{}", service(&matching("words: names, anchor: full")));
        assert_eq!(codes(&full), ["policy.bad_value"]);
        let blank = format!("list: names\nentries: [\" \"]\n---\n{}", service(&matching("words: names")));
        assert_eq!(codes(&blank), ["policy.bad_value"]);
        let unset = "  - match_regex: { pattern: a, expect: no_match }\n  - respond: { text: \"${match.text}\" }";
        assert_eq!(refusals(unset), ["expr.unknown_variable"], "with `no_match` nothing is set");
    }

    #[test]
    fn a_secret_is_not_searched_and_a_match_in_a_token_stays_one() {
        let secret = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
        let set = format!("{secret}{}", service(&matching("pattern: a, value: \"${secret('partner')}\"")));
        assert_eq!(refusals_of(&set), ["expr.marked_order"]);
        let steps = "  - match_regex: { pattern: \"[a-z]+$\", value: \"${request.headers.authorization}\" }
  - log: \"saw ${match.text}\"
  - audit: { fields: { found: \"${match.text}\" } }
  - respond: 204";
        let outcome = Trial::of(steps).send("GET", "/", &[("authorization", "Bearer zebra")], "");
        assert_eq!(outcome.status, 204);
        assert!(!format!("{:?}", outcome.record).contains("zebra"));
    }
}
