//! `raise`: ends the pipeline with a fault of the policy's own.
//!
//! A 4xx status is denied, a 5xx status broken. The code is the operator's: one of the gateway's own would
//! send whoever looks it up to the wrong cause.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::kind::Ends;
use crate::compile::operator::OWN_WORDS;
use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::expr::Place;
use crate::fault::Fault;
use crate::source::{Literal, Span, Spanned, Text};

pub const KIND: Kind = Kind {
    ends: Ends::Always,
    bodies: "only what it reads",
    faults: &[FaultDoc {
        code: "raise.absent",
        status: 400,
        doc: "The one `${}` of `text` is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
    }],
    examples: &[Example {
        title: "Refuse in the policy's own words",
        yaml: r#"
service: example
match: { path: /orders }
policy:
  - if: len(request.query.ids.all ?? []) > 2
    then:
      - raise: { status: 422, code: orders.too_many, text: "At most 2 ids", detail: "${request.query.ids.all}" }
  - respond: 204
tests:
  - name: few enough
    request: { path: "/orders?ids=1&ids=2" }
    expect: { status: 204, fault: none }
  - name: too many
    request: { path: "/orders?ids=1&ids=2&ids=3" }
    expect: { status: 422, fault: orders.too_many, json_has: { detail: At most 2 ids } }
"#,
    }],
    compile: raise,
    ..Kind::of::<Raise>("raise", "Ends the pipeline with a fault of the policy's own.", Category::Logic)
};

/// `again` is no code of a fault: it is the one that was caught.
fn raise(step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
    if step.parameter_node().as_text() != Some("again") {
        return step.parameters::<Raise>(cx)?.compile(step, cx);
    }
    if !cx.is_catching() {
        let help = "put it into a `catch` block; elsewhere write `raise: { status: 422, code: orders.bad }`";
        return cx.refuse(
            "policy.not_in_catch",
            step.span,
            "no fault was caught here that could be raised again",
            help,
        );
    }
    Compiled::plain(Again)
}

/// Raises the caught fault as it was.
struct Again;

impl Plain for Again {
    fn check(&self, x: &mut Exchange) -> Verdict {
        match x.caught() {
            Some(fault) => Verdict::Fault(Box::new(fault.clone())),
            None => Verdict::Passed, // not reached: it loads only inside of `catch`
        }
    }
}

/// Parameters of `raise`. `raise: again` stands in a `catch` block and raises what was caught.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raise {
    /// 4xx is denied, 5xx is broken.
    status: Spanned<u16>,
    /// Two or more words joined by points, such as `orders.too_many`.
    code: Literal,
    /// What the client may read.
    #[serde(default)]
    text: Option<Text>,
    /// For the record only.
    #[serde(default)]
    detail: Option<Text>,
}

impl Assertion for Raise {
    fn compile(self, _: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let status = status(self.status, cx);
        let code = code(&self.code, cx);
        let text = match &self.text {
            Some(text) => Some(cx.fault_text(text)?),
            None => None,
        };
        let detail = match &self.detail {
            Some(text) => Some(cx.text_into(text, Place::Plain, Sink::Record)?),
            None => None,
        };
        Compiled::plain(RaiseStep { status: status?, code: code?, text, detail })
    }
}

fn status(written: Spanned<u16>, cx: &mut Compile<'_>) -> Option<StatusCode> {
    let Spanned { value, span } = written;
    if value == StatusCode::UNAUTHORIZED.as_u16() {
        let message = "a 401 asks for credentials and has to say for which (RFC 9110 §15.5.2)";
        let help = "`authenticate_*` steps answer it with their challenge; to refuse a caller use 403";
        return cx.refuse("policy.bad_value", span, message, help);
    }
    match StatusCode::from_u16(value) {
        Ok(status) if (400..600).contains(&value) => Some(status),
        _ => {
            let message = format!("{value} is no status of a fault: 400 to 599 are");
            cx.refuse("policy.bad_value", span, message, "to answer with another status use `respond`")
        }
    }
}

fn code(literal: &Literal, cx: &mut Compile<'_>) -> Option<String> {
    let code = cx.literal(literal)?;
    own_code(&code, literal.span(), cx)?;
    Some(code)
}

/// Checks a code of the operator's own.
pub(super) fn own_code(code: &str, span: Span, cx: &mut Compile<'_>) -> Option<()> {
    let words: Vec<&str> = code.split('.').collect();
    let legal = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let first = words.first().copied().unwrap_or_default();
    let is_own = cx.operator() == Some(first);
    if words.len() < 2 || !words.iter().skip(usize::from(is_own)).all(legal) {
        let message = format!("`{code}` is no code");
        let help = "two or more words of lower-case letters and `_`, joined by points: `orders.too_many`";
        return cx.refuse("policy.bad_value", span, message, help);
    }
    cx.check_code(code, span)?;
    if is_own {
        return Some(());
    }
    if OWN_WORDS.contains(&first) || cx.around.catalogue.iter().any(|kind| kind.name == first) {
        let message = format!("codes that begin with `{first}.` are the gateway's own");
        return cx.refuse("policy.reserved_code", span, message, "begin it with a word of your own");
    }
    Some(())
}

struct RaiseStep {
    status: StatusCode,
    code: String,
    text: Option<TextParam>,
    detail: Option<TextParam>,
}

impl Plain for RaiseStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        match self.fault(x) {
            Ok(fault) | Err(fault) => Verdict::Fault(fault),
        }
    }
}

impl RaiseStep {
    fn fault(&self, x: &Exchange) -> Result<Box<Fault>, Box<Fault>> {
        let detail = self.detail.as_ref().map_or_else(String::new, |detail| detail.recorded_text(x));
        let fault = match self.status.is_client_error() {
            true => Fault::denied(self.status, self.code.clone(), detail),
            false => Fault::broken(self.status, self.code.clone(), detail),
        };
        Ok(match &self.text {
            Some(text) => fault.with_text(text.read(x)?),
            None => fault,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn detail_goes_to_the_record_and_credentials_only_as_a_hash() {
        let detail = "query ${request.query.a ?? 'none'}, key ${request.headers.authorization ?? ''}";
        let raise = format!("  - raise: {{ status: 503, code: shop.closed, detail: \"{detail}\" }}");
        let outcome = Trial::of(&raise).send("GET", "/?a=1", &[("authorization", "Bearer hunter2")], "");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (503, Some("shop.closed")));
        let detail = outcome.record.detail.unwrap();
        assert!(detail.starts_with("query 1, key #") && !detail.contains("hunter2"), "{detail}");
        assert!(!outcome.body.contains("query 1"));
        assert_eq!(outcome.record.outcome, "broken");
    }

    #[test]
    fn codes_and_statuses_are_checked_at_load() {
        let raise = |status: u16, code: &str| refusals(&format!("  - raise: {{ status: {status}, code: {code} }}"));
        assert!(raise(404, "orders.gone.for_good").is_empty());
        assert_eq!(raise(404, "route.connect"), ["policy.reserved_code"]);
        assert_eq!(raise(404, "body.mine"), ["policy.reserved_code"]);
        assert_eq!(raise(404, "orders"), ["policy.bad_value"]);
        assert_eq!(raise(404, "orders.Gone"), ["policy.bad_value"]);
        assert_eq!(raise(200, "orders.fine"), ["policy.bad_value"]);
        assert_eq!(raise(401, "orders.who"), ["policy.bad_value"]);
    }
}
