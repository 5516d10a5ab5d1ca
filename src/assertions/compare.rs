//! `compare`: denies unless a comparison holds.
//!
//! The rules are those of expressions: no conversion between types, numbers by value, texts by code point,
//! marked values in constant time. An absent side never holds, with every `op` but `exists` and `is_empty`.

mod side;

use std::borrow::Cow;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use self::side::{Side, side};
use crate::compile::text::{Test, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Condition, Plain, Verdict};
use crate::engine::value::{Facts, Mark, Type, Val, Value};
use crate::expr::{Kinds, Relation, elements};
use crate::fault::Fault;
use crate::source::{Expression, Literal, Node, Span, Spanned, Text};

pub const KIND: Kind = Kind {
    main: Some("condition"),
    bodies: "buffer, where it reads one",
    faults: &[
        FaultDoc {
            code: "compare.no_match",
            status: 403,
            doc: "The comparison does not hold, or a side is absent. Another status or code where the step says so.",
        },
        FaultDoc {
            code: "compare.type",
            status: 400,
            doc: "The sides have different types, which are never converted. By origin of the values: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "Only the caller's own tenant",
            yaml: r#"
service: example
match: { path: "/tenants/{tenant}" }
policy:
  - compare: path.tenant == request.headers.x_tenant
  - respond: { status: 204 }
tests:
  - name: the same
    request: { path: /tenants/acme, headers: { x-tenant: acme } }
    expect: { status: 204 }
  - name: another
    request: { path: /tenants/acme, headers: { x-tenant: other } }
    expect: { status: 403, fault: compare.no_match }
  - name: an absent value equals nothing
    request: { path: /tenants/acme }
    expect: { status: 403, fault: compare.no_match }
"#,
        },
        Example {
            title: "One of several values, with a code of its own",
            yaml: r#"
service: example
match: { path: /items }
policy:
  - compare:
      left: "${request.query.kind}"
      op: in
      right: [small, large]
      ignore_case: true
      status: 400
      code: items.kind
      text: "kind is small or large"
  - respond: { status: 204 }
tests:
  - name: one of them
    request: { path: "/items?kind=Small" }
    expect: { status: 204 }
  - name: none of them
    request: { path: "/items?kind=huge" }
    expect: { status: 400, fault: items.kind, json_has: { detail: "kind is small or large" } }
  - name: absent
    request: {}
    expect: { status: 400, fault: items.kind }
"#,
        },
    ],
    ..Kind::of::<Compare>("compare", "Denies unless a comparison holds.", Category::Messages)
};

/// Parameters of `compare`: either `condition`, or `left`, `op` and `right`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Compare {
    /// A bare expression that is true or false.
    #[serde(default)]
    condition: Option<Expression>,
    /// A text; one that is exactly `${...}` keeps its type. Numbers, `true` and `false` without quotes too.
    #[serde(default)]
    left: Option<Node>,
    /// How the sides must stand to each other.
    #[serde(default)]
    op: Option<Spanned<Op>>,
    /// As `left`, or a list of such. Not for `exists` and `is_empty`.
    #[serde(default)]
    right: Option<Node>,
    /// Texts compare without case.
    #[serde(default)]
    ignore_case: bool,
    /// Where `left` is a list: whether one element or each must do. An empty list never does. Without it
    /// `any`; but `contains`, `exists` and `is_empty`, and comparisons with a list, then mean the whole list.
    #[serde(default)]
    list: Option<ListMode>,
    /// Status of the denial, 403 without it.
    #[serde(default)]
    status: Option<Literal>,
    /// Code of the denial instead of `compare.no_match`.
    #[serde(default)]
    code: Option<Literal>,
    /// What the client may read.
    #[serde(default)]
    text: Option<Text>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    StartsWith,
    EndsWith,
    In,
    IsEmpty,
    Exists,
}

impl Op {
    fn relation(self) -> Option<Relation> {
        Some(match self {
            Op::Eq => Relation::Equal,
            Op::Ne => Relation::Unequal,
            Op::Lt => Relation::Less,
            Op::Le => Relation::LessOrEqual,
            Op::Gt => Relation::Greater,
            Op::Ge => Relation::GreaterOrEqual,
            Op::Contains => Relation::Contains,
            Op::StartsWith => Relation::StartsWith,
            Op::EndsWith => Relation::EndsWith,
            Op::In => Relation::In,
            Op::IsEmpty | Op::Exists => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum ListMode {
    Any,
    All,
}

impl Assertion for Compare {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let denial = denial(cx, &self.status, &self.code, &self.text);
        let beside = self.left.is_some() || self.op.is_some() || self.right.is_some() || self.list.is_some();
        let check = match (&self.condition, &self.left) {
            (Some(condition), _) if beside || self.ignore_case => {
                let help = "write either `condition`, or `left`, `op` and `right`";
                return cx.refuse("policy.bad_value", condition.span(), "`condition` stands alone", help);
            }
            (Some(condition), _) => {
                let compiled = cx.condition(&condition.0)?;
                cx.flow.proven.extend(compiled.proves.iter().cloned());
                Check::Condition(Test(compiled))
            }
            (None, Some(left)) => Check::Sides(self.sides(left, step.span, cx)?),
            (None, None) => {
                let help = "write `- compare: path.id == '7'`, or `left`, `op` and `right`";
                return cx.refuse("policy.missing_parameter", step.span, "nothing is compared", help);
            }
        };
        Compiled::plain(CompareStep { check, denial: denial? })
    }
}

impl Compare {
    fn sides(&self, left: &Node, span: Span, cx: &mut Compile<'_>) -> Option<Sides> {
        let Some(op) = self.op else {
            let help = "write `op: eq`, or another of the relations";
            return cx.refuse("policy.missing_parameter", span, "`left` needs an `op`", help);
        };
        let left_side = side(cx, left)?;
        let relation = match (op.value.relation(), &self.right) {
            (None, Some(right)) => {
                let message = "`exists` and `is_empty` look at `left` alone";
                return cx.refuse("policy.bad_value", right.span(), message, "remove `right`");
            }
            (Some(_), None) => {
                let help = "write what `left` is compared with";
                return cx.refuse("policy.missing_parameter", op.span, "this `op` needs `right`", help);
            }
            (None, None) => None,
            (Some(relation), Some(right)) => Some((relation, side(cx, right)?)),
        };
        if let Some((relation, right_side)) = &relation {
            self.check_types(*relation, &left_side, right_side, span, cx)?;
        }
        for side in [Some(&left_side), relation.as_ref().map(|(_, right)| right)].into_iter().flatten() {
            if let (Side::Text(text), true) = (side, op.value != Op::IsEmpty)
                && let Some(read) = text.variable()
            {
                cx.flow.prove(read.clone());
            }
        }
        let facts = relation.iter().fold(left_side.facts(), |facts, (_, right)| facts.mixed(right.facts()));
        let (op, ignore_case, list) = (op.value, self.ignore_case, self.list);
        Some(Sides { left: left_side, op, relation, ignore_case, list, facts })
    }

    /// Types that are known and differ are a load error.
    fn check_types(
        &self,
        relation: Relation,
        left: &Side,
        right: &Side,
        span: Span,
        cx: &mut Compile<'_>,
    ) -> Option<()> {
        let mark = left.facts().mark.joined(right.facts().mark);
        let (left, right) = (left.facts().ty, right.facts().ty);
        let hay = if relation == Relation::In { right } else { left };
        let searches = match relation {
            Relation::Contains | Relation::In => !matches!(hay, Type::List(_) | Type::Map(_)),
            Relation::StartsWith | Relation::EndsWith => true,
            _ => false,
        };
        if relation.orders() && mark.is_credential() || searches && mark == Mark::Secret {
            let message = "each answer would tell more of a secret or token";
            return cx.refuse("expr.marked_order", span, message, "compare it with `eq`, or with `in` of a list");
        }
        let (left_kinds, right_kinds) = (Kinds::of(left), Kinds::of(right));
        if left_kinds.meets(Kinds::LIST) || right_kinds.meets(Kinds::LIST.or(Kinds::MAP)) {
            return Some(()); // elements are compared, their types show at run time
        }
        let fits = match relation {
            Relation::Contains | Relation::In | Relation::StartsWith | Relation::EndsWith => {
                let hay = if relation == Relation::In { right_kinds } else { left_kinds };
                hay.meets(Kinds::TEXT.or(Kinds::MAP)) && left_kinds.or(right_kinds).meets(Kinds::TEXT)
            }
            relation if relation.orders() => {
                let ordered = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::TIME);
                left_kinds.comparable(right_kinds) && left_kinds.meets(ordered)
            }
            _ => left_kinds.comparable(right_kinds),
        };
        if fits {
            return Some(());
        }
        let message = format!("these types cannot be compared so: {} and {}", left.word(), right.word());
        let help = "numbers stand without quotes; convert a text with `${int(...)}`";
        cx.refuse("expr.type_mismatch", span, message, help)
    }
}

fn denial(
    cx: &mut Compile<'_>,
    status: &Option<Literal>,
    code: &Option<Literal>,
    text: &Option<Text>,
) -> Option<Denial> {
    let status = match status {
        None => StatusCode::FORBIDDEN,
        Some(literal) => cx.denied_status(literal)?,
    };
    let code = match code {
        None => Cow::Borrowed("compare.no_match"),
        Some(literal) => {
            let code = cx.literal(literal)?;
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(legal);
            if !code.split('.').all(is_word) {
                let help = "write lower-case words with dots between them, such as `orders.closed`";
                return cx.refuse("policy.bad_value", literal.span(), format!("`{code}` is no code"), help);
            }
            cx.check_code(&code, literal.span())?;
            Cow::Owned(code)
        }
    };
    let text = match text {
        None => None,
        Some(text) => Some(cx.fault_text(text)?),
    };
    Some(Denial { status, code, text })
}

#[derive(Debug)]
enum Check {
    Condition(Test),
    Sides(Sides),
}

#[derive(Debug)]
struct Sides {
    left: Side,
    op: Op,
    relation: Option<(Relation, Side)>,
    ignore_case: bool,
    list: Option<ListMode>,
    /// Of both sides together.
    facts: Facts,
}

#[derive(Debug)]
struct Denial {
    status: StatusCode,
    code: Cow<'static, str>,
    text: Option<TextParam>,
}

#[derive(Debug)]
struct CompareStep {
    check: Check,
    denial: Denial,
}

impl Plain for CompareStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let holds = match &self.check {
            Check::Condition(condition) => condition.holds(x),
            Check::Sides(sides) => sides.hold(x),
        };
        match holds {
            Ok(true) => Verdict::Passed,
            Ok(false) => Verdict::Fault(self.denial.fault(x)),
            Err(fault) if fault.code == "expression.type" => Verdict::Fault(fault.with_code("compare.type")),
            Err(fault) => Verdict::Fault(fault),
        }
    }
}

impl Denial {
    fn fault(&self, x: &Exchange) -> Box<Fault> {
        let fault = Fault::denied(self.status, self.code.clone(), "the comparison does not hold");
        match self.text.as_ref().map(|text| text.read(x)) {
            None => fault,
            Some(Ok(text)) => fault.with_text(text),
            Some(Err(why)) => why,
        }
    }
}

impl Sides {
    fn hold(&self, x: &Exchange) -> Result<bool, Box<Fault>> {
        let left = self.left.value(x)?;
        let Some((relation, right)) = &self.relation else {
            return self
                .of_each(&left, |value| Ok(if self.op == Op::Exists { !value.is_absent() } else { is_empty(value) }));
        };
        let right = right.value(x)?;
        let (left, right) = match self.ignore_case {
            true => (folded(left.into_value()).into_val(), folded(right.into_value()).into_val()),
            false => (left, right),
        };
        let marked = self.facts.mark.is_credential();
        let whole = *relation == Relation::Contains || (elements(&right).is_some() && *relation != Relation::In);
        let judge = |value: &Val<'_>| relation.holds(value, &right, marked, self.facts.origin);
        if whole && self.list.is_none() { judge(&left) } else { self.of_each(&left, judge) }
    }

    /// Looks at the elements where the value is a list and the step means those.
    fn of_each(
        &self,
        left: &Val<'_>,
        judge: impl Fn(&Val<'_>) -> Result<bool, Box<Fault>>,
    ) -> Result<bool, Box<Fault>> {
        let about_list = self.relation.is_none() && self.list.is_none();
        let Some(items) = elements(left).filter(|_| !about_list) else { return judge(left) };
        let all = self.list == Some(ListMode::All);
        let (mut some, mut each) = (false, true);
        for item in items {
            let holds = judge(&item)?;
            (some, each) = (some | holds, each & holds);
        }
        Ok(if all { some && each } else { some })
    }
}

/// Nothing there, or nothing in it.
fn is_empty(value: &Val<'_>) -> bool {
    match value {
        Val::Absent => true,
        Val::Text(text) => text.is_empty(),
        Val::Bytes(bytes) => bytes.is_empty(),
        Val::List(list) => list.is_empty(),
        Val::Map(map) => map.0.is_empty(),
        Val::Json(json) => {
            json.as_array().is_some_and(Vec::is_empty) || json.as_object().is_some_and(|map| map.is_empty())
        }
        Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Time(_) => false,
    }
}

/// Texts, also those in lists, without case.
fn folded(value: Value) -> Value {
    match value {
        Value::Text(text) => Value::text(text.to_lowercase()),
        Value::List(list) => Value::List(list.iter().cloned().map(folded).collect()),
        Value::Json(json) => match json.as_array() {
            Some(items) => Value::List(items.iter().cloned().map(Value::from_json).map(folded).collect()),
            None => Value::Json(json),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
