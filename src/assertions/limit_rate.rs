//! `limit_rate`: limits how often something may happen, with an even refill (GCRA).
//!
//! RFC 6585 §4 (429), RFC 9110 §10.2.3 (`Retry-After`), draft-ietf-httpapi-ratelimit-headers for the
//! fields. In any span t at most `burst + rate × t` pass, exactly. A counter belongs to the service, the
//! step's name or place, and whom it counts, not to the text of the file: it survives a reload, unless that
//! changes the limit itself. Counters live in this process.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use crate::compile::counted::Owner;
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::{AnswerEdit, Exchange};
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Slot;
use crate::engine::value::{Type, Val, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::secret::keyed_u128;
use crate::source::{Diagnostic, Literal, Rate, Text};
use crate::store::counters::{Decision, Gcra};

const NS_PER_S: u64 = 1_000_000_000;

pub const KIND: Kind = Kind {
    sets: &[
        Output { name: "limit.limit", ty: Type::Int, absent: false, doc: "The most that passes at once." },
        Output { name: "limit.remaining", ty: Type::Int, absent: false, doc: "What would still pass now." },
        Output { name: "limit.reset_s", ty: Type::Int, absent: false, doc: "Seconds until all of it is free again." },
        Output {
            name: "limit.retry_after_s",
            ty: Type::Int,
            absent: false,
            doc: "Seconds until the same would pass; 0 where it passed.",
        },
    ],
    faults: &[
        FaultDoc {
            code: "limit_rate.exceeded",
            status: 429,
            doc: "More than the limit. `Retry-After` says when it would pass; without it the weight is above the burst and never will.",
        },
        FaultDoc {
            code: "limit_rate.absent",
            status: 400,
            doc: "What `per` or `weight` reads is absent. Give it a default: `${auth.client ?? 'none'}`. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "limit_rate.bad_weight",
            status: 400,
            doc: "`weight` came out as something else than a whole number from 0. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "Two at once for each address, then one per second",
            yaml: r#"
service: example
match: { path: /search }
policy:
  - limit_rate: { per: "${request.client.ip}", rate: 1/second, burst: 2 }
  - respond: { json: { remaining: "${limit.remaining}" } }
tests:
  - name: the burst passes, the next waits
    exchanges:
      - request: {}
        expect: { status: 200, json: { remaining: 1 }, headers: { ratelimit-limit: "2", ratelimit-remaining: "1", ratelimit-reset: "1" } }
      - request: {}
        expect: { status: 200, json: { remaining: 0 } }
      - request: {}
        expect: { status: 429, fault: limit_rate.exceeded, headers: { retry-after: "1", ratelimit-remaining: "0" } }
      - request: { client: { ip: 198.51.100.9 } }
        expect: { status: 200, json: { remaining: 1 } }
      - after: 1s
        request: {}
        expect: { status: 200 }
"#,
        },
        Example {
            title: "One budget for all, weighed by what is asked",
            yaml: r#"
service: example
match: { path: /export }
policy:
  - limit_rate: { per: all, rate: 60/minute, burst: 10, weight: "${request.query.rows ?? '1'}", headers: structured }
  - respond: 204
tests:
  - name: a weight takes so much
    exchanges:
      - request: { path: "/export?rows=8" }
        expect: { status: 204, headers: { ratelimit: '"limit_rate";r=2;t=8', ratelimit-policy: '"limit_rate";q=10;w=10' } }
      - request: { path: "/export?rows=3", client: { ip: 198.51.100.9 } }
        expect: { status: 429, fault: limit_rate.exceeded, headers: { retry-after: "1" } }
      - request: { path: "/export?rows=0" }
        expect: { status: 204 }
  - name: more than the burst never passes
    request: { path: "/export?rows=11" }
    expect: { status: 429, headers: { retry-after: { absent: true } } }
  - name: no weight
    request: { path: "/export?rows=many" }
    expect: { status: 400, fault: limit_rate.bad_weight }
"#,
        },
    ],
    ..Kind::of::<LimitRate>(
        "limit_rate",
        "Limits how often something may happen, with an even refill.",
        Category::Traffic,
    )
};

/// Parameters of `limit_rate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitRate {
    /// How fast it refills: `100/minute`.
    rate: Rate,
    /// Whom it counts, such as `${auth.subject}` or `${request.client.ip}`; `all` is one counter for everybody.
    per: Text,
    /// How many may pass at once; the rate's count without it.
    #[serde(default)]
    burst: Option<u64>,
    /// What one request takes, a whole number; 1 without it. 0 passes free.
    #[serde(default)]
    weight: Option<Text>,
    /// Steps of other services with this name, rate and burst share the counter.
    #[serde(default)]
    name: Option<Literal>,
    /// Fields that tell the client: `RateLimit-Limit` and its like, those of the IETF draft, or none.
    #[serde(default)]
    headers: Fields,
    /// What happens when the store of counters fails. No effect while counters live in memory, which never
    /// fail.
    #[serde(default)]
    on_store_error: OnStoreError,
}

/// Which fields tell the client about the limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Fields {
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    #[default]
    Split,
    /// `RateLimit-Policy` and `RateLimit`, as structured fields.
    Structured,
    /// None.
    None,
}

/// What happens when the store of counters fails.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum OnStoreError {
    /// Counts in this process meanwhile.
    #[default]
    Local,
    /// Lets all pass.
    Allow,
    /// Refuses all.
    Deny,
}

impl Assertion for LimitRate {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if self.on_store_error != OnStoreError::default() {
            let message = "`on_store_error` has no effect here: counters live in memory, which does not fail";
            cx.report(Diagnostic::warning("policy.no_effect", step.span, message).with_help("remove `on_store_error`"));
        }
        let period_ns = u64::try_from(self.rate.period.as_nanos()).unwrap_or(u64::MAX);
        let gcra = match Gcra::per(self.rate.count, period_ns, self.burst.unwrap_or(self.rate.count)) {
            Ok(gcra) => Some(gcra),
            Err(why) => cx.refuse("policy.bad_value", self.rate.span, why, "write `100/minute`"),
        };
        let per = match self.per.as_str() {
            "all" => Some(None),
            _ => cx.counted_per(&self.per).map(Some),
        };
        let weight = match &self.weight {
            Some(text) => weight(text, cx),
            None => Some(Weight::Fixed(1)),
        };
        if self.headers != Fields::None {
            cx.changes_message(step.span);
        }
        let owner = cx.counter_owner(self.name.as_ref(), step)?;
        let renamed = step.renamed();
        let [limit, remaining, reset_s, retry_after_s] = [0, 1, 2, 3].map(|at| KIND.sets.get(at));
        let mut out = |output: Option<&Output>| output.map(|output| cx.out(output, renamed));
        let slots = Slots {
            limit: out(limit)?,
            remaining: out(remaining)?,
            reset_s: out(reset_s)?,
            retry_after_s: out(retry_after_s)?,
        };
        let (gcra, label) = (gcra?, structured_key(&owner.label));
        let fields = self.headers;
        Compiled::plain(LimitRateStep { gcra, per: per?, weight: weight?, owner, label, fields, slots })
    }
}

/// What one request takes.
#[derive(Debug)]
enum Weight {
    Fixed(u64),
    Text(TextParam),
}

fn weight(text: &Text, cx: &mut Compile<'_>) -> Option<Weight> {
    let compiled = cx.text(text, Place::Plain)?;
    let Some(literal) = compiled.literal() else { return Some(Weight::Text(compiled)) };
    match literal.parse() {
        Ok(weight) => Some(Weight::Fixed(weight)),
        Err(_) => {
            let message = format!("`{literal}` is no weight: a whole number from 0 is");
            cx.refuse("policy.bad_value", text.span(), message, "write a whole number such as `1`")
        }
    }
}

impl Weight {
    fn of(&self, x: &Exchange) -> Result<u64, Box<Fault>> {
        let text = match self {
            Weight::Fixed(weight) => return Ok(*weight),
            Weight::Text(text) => text,
        };
        let weight = match text.value(x)? {
            Val::Absent => return Err(text.absence()),
            Val::Int(int) => u64::try_from(int).ok(),
            Val::Text(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        };
        weight.ok_or_else(|| {
            fault_by(text.facts().origin, "limit_rate.bad_weight", "the weight is no whole number from 0")
        })
    }
}

#[derive(Debug)]
struct Slots {
    limit: Slot,
    remaining: Slot,
    reset_s: Slot,
    retry_after_s: Slot,
}

struct LimitRateStep {
    gcra: Gcra,
    /// `None` counts everybody together.
    per: Option<TextParam>,
    weight: Weight,
    owner: Owner,
    /// Name of the limit as a structured field's string.
    label: String,
    fields: Fields,
    slots: Slots,
}

impl Plain for LimitRateStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.take(x).into()
    }
}

impl LimitRateStep {
    fn take(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let weight = self.weight.of(x)?;
        let per = match &self.per {
            Some(per) => per.read(x)?,
            None => Cow::Borrowed(""),
        };
        // Rate and burst are part of the key: a changed limit starts afresh instead of owing times of another.
        let (period, burst) = (self.gcra.period_ns().to_be_bytes(), self.gcra.burst().to_be_bytes());
        let (scope, step) = (self.owner.scope.as_bytes(), self.owner.step.as_bytes());
        let key = keyed_u128("limit_rate", &[scope, step, &period, &burst, per.as_bytes()]);
        drop(per);
        let decision = x.worker.shared.rates.take(self.gcra, key, weight, x.worker.clock.mono_ns());
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let retry_after_s = decision.retry_after_ns.map(seconds);
        x.set(self.slots.limit, int(decision.limit));
        x.set(self.slots.remaining, int(decision.remaining));
        x.set(self.slots.reset_s, int(seconds(decision.reset_ns)));
        x.set(self.slots.retry_after_s, int(retry_after_s.unwrap_or(0)));
        self.tell(x, decision);
        if decision.allowed {
            return Ok(());
        }
        let detail = format!("weight {weight} of {}, {} remaining", decision.limit, decision.remaining);
        let fault = Fault::denied(StatusCode::TOO_MANY_REQUESTS, "limit_rate.exceeded", detail);
        Err(match retry_after_s {
            Some(seconds) => fault.with_retry_after(seconds),
            None => fault,
        })
    }

    /// Puts the fields on whatever leaves. Where several steps of one form do, the tightest stays.
    fn tell(&self, x: &mut Exchange, decision: Decision) {
        let (first, remaining) = match self.fields {
            Fields::None => return,
            Fields::Split => (REMAINING, decision.remaining),
            Fields::Structured => (RATELIMIT, decision.remaining),
        };
        let told = x.answer_edits.iter().find_map(|edit| match edit {
            AnswerEdit::Set(name, values) if *name == first => values.first().and_then(remaining_of),
            _ => None,
        });
        if told.is_some_and(|told| told <= remaining) {
            return;
        }
        if told.is_some() {
            x.retain_answer_edits(|edit| !matches!(edit, AnswerEdit::Set(name, _) if OURS.contains(name)));
        }
        let reset_s = seconds(decision.reset_ns);
        match self.fields {
            Fields::None => {}
            Fields::Split => {
                put(x, REMAINING, HeaderValue::from(remaining));
                put(x, LIMIT, HeaderValue::from(decision.limit));
                put(x, RESET, HeaderValue::from(reset_s));
            }
            Fields::Structured => {
                let label = &self.label;
                let window_s = seconds(self.gcra.period_ns().saturating_mul(self.gcra.burst()));
                let texts = [
                    (RATELIMIT, format!("\"{label}\";r={remaining};t={reset_s}")),
                    (POLICY, format!("\"{label}\";q={};w={window_s}", decision.limit)),
                ];
                for (name, text) in texts {
                    if let Ok(value) = HeaderValue::from_str(&text) {
                        put(x, name, value);
                    }
                }
            }
        }
    }
}

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const OURS: [HeaderName; 5] = [LIMIT, REMAINING, RESET, POLICY, RATELIMIT];

fn put(x: &mut Exchange, name: HeaderName, value: HeaderValue) {
    x.edit_answer(AnswerEdit::Set(name, smallvec![value]));
}

/// What an earlier step told: a plain number, or the `r` of the structured form.
fn remaining_of(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let number = match text.split_once(";r=") {
        Some((_, rest)) => rest.split(';').next()?,
        None => text,
    };
    number.parse().ok()
}

/// Whole seconds, rounded up.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(NS_PER_S)
}

/// A name inside the quotes of a structured field's string (RFC 9651 §3.3.3).
fn structured_key(label: &str) -> String {
    label.chars().filter(|char| (' '..='~').contains(char) && !matches!(char, '"' | '\\')).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::assertions::trial::{Trial, refusals};

    fn limit(params: &str) -> String {
        format!("  - limit_rate: {{ {params} }}\n  - respond: 204")
    }

    #[test]
    fn a_reload_forgets_nothing_and_a_changed_limit_starts_afresh() {
        let trial = Trial::of(&limit("per: \"${request.client.ip}\", rate: 1/hour"));
        assert_eq!(trial.get("/").status, 204);
        assert_eq!(trial.get("/").status, 429);
        trial.reload(&limit("rate: 1/hour, burst: 1, per: \"${request.client.ip}\", headers: none"));
        assert_eq!(trial.get("/").status, 429);
        trial.reload(&limit("per: \"${request.client.ip}\", rate: 2/hour"));
        assert_eq!(trial.get("/").status, 204);
    }

    #[test]
    fn a_refusal_says_when_it_would_pass() {
        let trial = Trial::of(&limit("per: all, rate: 1/minute"));
        trial.get("/");
        trial.clock.advance(Duration::from_millis(500));
        let refused = trial.get("/");
        assert_eq!(
            (refused.fault.as_deref(), refused.header("retry-after")),
            (Some("limit_rate.exceeded"), Some("60"))
        );
        trial.clock.advance(Duration::from_millis(59_499));
        assert_eq!(trial.get("/").header("retry-after"), Some("1"));
        trial.clock.advance(Duration::from_millis(1));
        assert_eq!(trial.get("/").status, 204);
    }

    #[test]
    fn the_tightest_of_several_limits_is_told() {
        let one = "  - limit_rate: { per: all, rate: 5/hour }\n  - limit_rate: { per: all, rate: 3/hour }\n";
        let trial = Trial::of(&format!("{one}{}", limit("per: all, rate: 9/hour")));
        let outcome = trial.get("/");
        assert_eq!((outcome.header("ratelimit-limit"), outcome.header("ratelimit-remaining")), (Some("3"), Some("2")));
        assert_eq!(outcome.headers.get_all("ratelimit-limit").iter().count(), 1);
        assert_eq!(remaining_of(&HeaderValue::from_static("\"a\";r=7;t=1")), Some(7));
    }

    #[test]
    fn limits_that_mean_nothing_do_not_load() {
        assert_eq!(refusals(&limit("rate: 1/second")), ["policy.missing_parameter"]);
        assert_eq!(refusals(&limit("rate: 1/second, per: everybody")), ["policy.bad_value"]);
        assert_eq!(refusals(&limit("rate: 1/second, per: all, burst: 0")), ["policy.bad_value"]);
        assert_eq!(refusals(&limit("rate: 1/second, per: all, weight: -1")), ["policy.bad_value"]);
        assert_eq!(refusals(&limit("rate: 1/fortnight, per: all")), ["policy.bad_value"]);
    }

    #[test]
    fn the_outputs_are_there_on_both_ways_and_headers_can_be_left_out() {
        let shown = "[\"${limit.limit}\", \"${limit.remaining}\", \"${limit.reset_s}\", \"${limit.retry_after_s}\"]";
        let steps =
            format!("  - limit_rate: {{ per: all, rate: 2/minute, headers: none }}\n  - respond: {{ json: {shown} }}");
        let denied = "on_fault:\n  - set_headers: { x-wait: \"${limit.retry_after_s ?? 0}\" }";
        let trial = Trial::of(&format!("{steps}\n{denied}"));
        assert_eq!((trial.get("/").body, trial.get("/").body), ("[2,1,30,0]".into(), "[2,0,60,0]".into()));
        let refused = trial.get("/");
        assert_eq!((refused.status, refused.header("x-wait")), (429, Some("30")));
        assert!(refused.headers.keys().all(|name| !name.as_str().starts_with("ratelimit")));
    }

    #[test]
    fn a_name_shares_the_counter_between_services_and_weight_zero_is_always_free() {
        let service = |name: &str, more: &str| {
            format!(
                "service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - limit_rate: {{ per: all, rate: 1/hour{more} }}\n  - respond: 204\n---\n"
            )
        };
        let shared = ", name: both, weight: \"${request.query.w ?? '1'}\"";
        let set = [service("a", shared), service("b", shared), service("c", "")].concat();
        let trial = Trial::of_set(set.trim_end_matches("---\n"));
        assert_eq!([trial.get("/a").status, trial.get("/b").status, trial.get("/c").status], [204, 429, 204]);
        assert_eq!((trial.get("/a?w=0").status, trial.get("/a").status), (204, 429));
        let absent = Trial::of(&limit("per: \"${request.query.who}\", rate: 1/hour")).get("/");
        assert_eq!((absent.status, absent.fault.as_deref()), (400, Some("limit_rate.absent")));
    }
}
