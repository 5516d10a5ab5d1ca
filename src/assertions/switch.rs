//! `switch`: chooses one of several lists of steps by a value.
//!
//! The value's text is compared with the keys. A value that has no case and no `default` is denied: a switch never
//! falls through in silence.

use std::collections::HashMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::flow::Flow;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Branch, Op};
use crate::engine::value::{Type, Val, with_article};
use crate::expr::{self, fault_by};
use crate::fault::Fault;
use crate::source::{Diagnostic, Entry, Expression, Node, Span};

pub const KIND: Kind = Kind {
    main: Some("value"),
    blocks: &["cases", "default"],
    faults: &[
        FaultDoc {
            code: "switch.no_case",
            status: 400,
            doc: "No case has this value, and there is no `default`. Write one where other values are to be expected.",
        },
        FaultDoc {
            code: "switch.not_a_word",
            status: 400,
            doc: "The value is no string, int or bool, or it is absent. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "By method",
        yaml: r#"
service: example
match: { path: /items }
policy:
  - switch: request.method
    cases:
      GET:
        - respond: { text: read }
      "PUT, PATCH":
        - respond: { text: changed }
    default:
      - respond: { status: 405, text: neither }
tests:
  - name: one value
    request: {}
    expect: { status: 200, text: read }
  - name: one of several
    request: { method: PATCH }
    expect: { text: changed, status: 200 }
  - name: another
    request: { method: DELETE }
    expect: { status: 405 }
"#,
    }],
    ..Kind::of::<Switch>("switch", "Chooses one of several lists of steps by a value.", Category::Logic)
};

/// Parameters of `switch`. `cases: { VALUE: [...], "VALUE, VALUE": [...] }` and `default: [...]` stand beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    /// A bare expression: a string, int or bool.
    value: Expression,
}

impl Assertion for Switch {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let subject = subject(&self.value.0, cx);
        let cases = step.block("cases").and_then(Node::as_map).unwrap_or_default();
        if cases.is_empty() {
            let help = "write `cases: { VALUE: [...] }` beside `switch`";
            return cx.refuse("policy.missing_parameter", step.span, "`switch` needs `cases`", help);
        }
        let (id, before) = (cx.current(), cx.flow.clone());
        let mut values: HashMap<String, usize> = HashMap::new();
        let mut places: HashMap<String, Span> = HashMap::new();
        let (mut blocks, mut after) = (Vec::new(), None);
        let default = step.block("default");
        for case in cases {
            for value in case.key.split(',').map(str::trim) {
                if !check_case(value, case, subject.as_ref(), cx) {
                    continue;
                }
                values.insert(value.to_owned(), blocks.len());
                if let Some(first) = places.insert(value.to_owned(), case.key_span) {
                    let message = format!("`{value}` has a case already");
                    let twice = Diagnostic::error("policy.duplicate_case", case.key_span, message);
                    cx.report(twice.with_help("remove one of them").with_note(first, "the other one"));
                }
            }
            let block = cx.block(&case.value, &step.path_of(&format!("cases.{}", case.key)), before.clone());
            after = Some(joined(after, block.after));
            blocks.push(block.ops);
        }
        if let Some(default) = default {
            let block = cx.block(default, &step.path_of("default"), before.clone());
            after = Some(joined(after, block.after));
            blocks.push(block.ops);
        }
        cx.flow = after.unwrap_or(before);
        let otherwise = default.is_some().then(|| blocks.len() - 1);
        let choice = Choice { subject: subject?, values, otherwise };
        let mut ways = Vec::with_capacity(blocks.len());
        let mut begin = 0;
        for block in &blocks {
            ways.push(begin);
            begin += block.len() + 1;
        }
        let mut ops = vec![Op::Branch(id, Box::new(choice), ways)];
        let end = begin + 1;
        for block in blocks {
            ops.extend(block);
            ops.push(Op::Jump(end - ops.len() - 1));
        }
        Some(Compiled::Ops(ops))
    }
}

fn joined(others: Option<Flow>, this: Flow) -> Flow {
    match others {
        Some(others) => others.join(this),
        None => this,
    }
}

fn subject(node: &Node, cx: &mut Compile<'_>) -> Option<expr::Compiled> {
    let compiled = cx.expression(&Expression(node.clone()))?;
    if compiled.known().is_some() {
        let message = "this value never changes: the same case is always chosen";
        let help = "choose by something of the request, or keep the steps of that case alone";
        cx.report(Diagnostic::warning("policy.constant_condition", node.span(), message).with_help(help));
    }
    if compiled.facts.absent && !matches!(compiled.facts.ty, Type::Any | Type::Json) {
        let message = "this may be absent, and no case stands for that";
        let help = format!("give it a default: `{} ?? ''`", node.as_text().unwrap_or_default());
        return cx.refuse("expr.may_be_absent", node.span(), message, &help);
    }
    if compiled.facts.absent {
        let message = "this may be absent, and no case stands for that";
        return cx.refuse("expr.may_be_absent", node.span(), message, "give it a default with `??`");
    }
    if !matches!(compiled.facts.ty, Type::Any | Type::Json | Type::Text | Type::Int | Type::Bool) {
        let message =
            format!("`switch` takes a string, int or bool; this is {}", with_article(compiled.facts.ty.word()));
        return cx.refuse("policy.wrong_type", node.span(), message, "choose by one of its members, or by `string(x)`");
    }
    Some(compiled)
}

/// Whether a value of the subject's type can be what a key says, or a part of it between commas.
fn check_case(value: &str, case: &Entry, subject: Option<&expr::Compiled>, cx: &mut Compile<'_>) -> bool {
    let possible = match subject.map(|subject| subject.facts.ty) {
        Some(Type::Int) => value.parse::<i64>().is_ok_and(|int| int.to_string() == value),
        Some(Type::Bool) => matches!(value, "true" | "false"),
        // The empty text is meant where the key is nothing else; between commas a value was forgotten.
        _ => !value.is_empty() || case.key.is_empty(),
    };
    let help = "write `default:` beside `cases:`, not below it, for all values that have no case";
    if !possible {
        let (message, cure) = match value {
            "" if !case.key.is_empty() => {
                ("a value is missing here".to_owned(), "the empty text is a case of its own: `\"\": [...]`")
            }
            "" => ("the empty text is no value that can come here".to_owned(), "write a value of the type of `switch`"),
            "default" => (format!("`{value}` is no value that can come here"), help),
            _ => (format!("`{value}` is no value that can come here"), "write a value of the type of `switch`"),
        };
        cx.refuse::<()>("policy.bad_value", case.key_span, message, cure);
    } else if value == "default" {
        let message = "this is the case of the text `default`, and not of all other values";
        cx.report(Diagnostic::warning("policy.default_as_case", case.key_span, message).with_help(help));
    }
    possible
}

struct Choice {
    subject: expr::Compiled,
    values: HashMap<String, usize>,
    otherwise: Option<usize>,
}

impl Branch for Choice {
    fn choose(&self, x: &Exchange) -> Result<usize, Box<Fault>> {
        let value = self.subject.eval(x)?;
        let way = match &value {
            Val::Text(text) => self.values.get(&**text),
            Val::Int(int) => self.values.get(itoa::Buffer::new().format(*int)),
            Val::Bool(bool) => self.values.get(if *bool { "true" } else { "false" }),
            other => {
                let detail = format!("the value is {}", other.type_word());
                return Err(fault_by(self.subject.facts.origin, "switch.not_a_word", detail));
            }
        };
        // The value itself stays out of the detail: it may be a credential.
        way.copied().or(self.otherwise).ok_or_else(|| {
            Fault::denied(StatusCode::BAD_REQUEST, "switch.no_case", "no case has this value, and there is no default")
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals, service, warnings};

    const CASES: &str = "    cases:\n      a: [{ set: { v: one } }]\n      'b, c': [{ set: { v: two, w: x } }]\n";

    #[test]
    fn texts_and_numbers_are_compared_as_they_are_written() {
        let steps = format!("  - switch: request.query.k ?? 'a'\n{CASES}  - respond: {{ text: \"${{v}}\" }}");
        let trial = Trial::of(&steps);
        assert_eq!(trial.get("/").body, "one");
        assert_eq!(trial.get("/?k=c").body, "two");
        let outcome = trial.get("/?k=d");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("switch.no_case")));
        let steps = "  - switch: len(request.path)\n    cases:\n      1: [{ respond: 201 }]\n      2: [{ respond: 202 }]\n    default:\n      - respond: 203";
        let trial = Trial::of(steps);
        assert_eq!([trial.get("/").status, trial.get("/a").status, trial.get("/ab").status], [201, 202, 203]);
        let steps =
            "  - switch: request.path == '/'\n    cases: { true: [{ respond: 201 }], false: [{ respond: 202 }] }";
        assert_eq!([Trial::of(steps).get("/").status, Trial::of(steps).get("/a").status], [201, 202]);
    }

    #[test]
    fn an_empty_text_has_a_case() {
        let steps = "  - switch: request.query.k ?? 'none'\n    cases:\n      '': [{ respond: 201 }]\n      none: [{ respond: 202 }]\n    default: [{ respond: 203 }]";
        let trial = Trial::of(steps);
        assert_eq!([trial.get("/?k=").status, trial.get("/").status, trial.get("/?k=a").status], [201, 202, 203]);
    }

    #[test]
    fn a_value_that_is_no_word_is_a_fault() {
        let steps = "  - switch: request.json.k ?? 'a'\n    cases: { a: [{ respond: 204 }] }\n";
        let outcome = Trial::of(steps).send("POST", "/", &[], "{\"k\":[1]}");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("switch.not_a_word")));
    }

    #[test]
    fn what_every_case_sets_is_there() {
        let text = |text: &str| {
            refusals(&format!("  - switch: request.method\n{CASES}  - respond: {{ text: \"a ${{{text}}}\" }}"))
        };
        assert!(text("v").is_empty() && text("w ?? ''").is_empty());
        assert_eq!(text("w"), ["expr.may_be_absent"]);
    }

    #[test]
    fn mistakes_are_told_at_load() {
        let switch = |subject: &str, cases: &str| {
            refusals(&format!("  - switch: {subject}\n    cases: {cases}\n  - respond: 204"))
        };
        let one = "{ a: [{ log: x }] }";
        assert!(switch("request.method", one).is_empty());
        assert_eq!(switch("request.query.a", one), ["expr.may_be_absent"]);
        for case in ["'a,'", "','", "' '", "'a, , b'"] {
            let cases = format!("{{ {case}: [{{ log: x }}] }}");
            assert_eq!(switch("request.method", &cases), ["policy.bad_value"], "{case}");
        }
        assert_eq!(switch("request.port", "{ '': [{ log: x }] }"), ["policy.bad_value"]);
        assert_eq!(switch("request.method", "{ 'a, b': [{ log: x }], b: [{ log: x }] }"), ["policy.duplicate_case"]);
        assert_eq!(switch("request.method", "{}"), ["policy.missing_parameter"]);
        assert_eq!(switch("request.port", one), ["policy.bad_value"]);
        assert_eq!(switch("request.body", one), ["policy.wrong_type"]);
        assert_eq!(
            warnings(&service("  - switch: \"'a'\"\n    cases: { a: [{ respond: 204 }] }")),
            ["policy.constant_condition"]
        );
        let no_answer = "  - switch: request.method\n    cases: { GET: [{ respond: 204 }] }\n    default: [{ log: x }]";
        assert_eq!(refusals(no_answer), ["policy.no_answer"]);
        let all = "  - switch: request.method\n    cases: { GET: [{ respond: 204 }] }\n  - log: never";
        assert_eq!(refusals(all), ["policy.unreachable_step"]);
    }
}
