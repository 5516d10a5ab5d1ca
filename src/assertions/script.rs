//! `script`: decides or computes in Rhai.
//!
//! A script is pure: it reads the variables of the policy, sets the results it declares, denies or fails. Its text is
//! compiled and checked when the policy loads; a run is bounded in operations and time, and one that may take longer
//! than a worker can spare gets a thread of a small pool.

mod text;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use self::text::{Declared, Written, results};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Flow, Plain, Verdict, Waits};
use crate::engine::read::{Budget, Reader};
use crate::engine::value::{Val, Value, with_article};
use crate::expr::fault_by;
use crate::expr::interpret::{Ended, Ending, Interpreted};
use crate::fault::Fault;
use crate::identity::hash_pool::HashPool;
use crate::limits::{SCRIPT_TIME, SCRIPT_TIME_MAX};
use crate::source::{DurationValue, Entries, Expression, Literal, Node};

const REFUSED: &str = "script.refused";
const LIMIT: &str = "script.limit";
const ERROR: &str = "script.error";
const TYPE: &str = "script.type";
const BUSY: &str = "script.busy";

/// Scripts with a long `time_limit` that run at a time.
const POOL_THREADS: usize = 2;
/// Scripts that wait for one of them; at a second each the last one waits for half a minute, which the deadline of its
/// request cuts.
const POOL_QUEUE_MAX: usize = 64;
/// `Retry-After` of a full pool, in seconds.
const BUSY_RETRY_S: u64 = 1;

pub const KIND: Kind = Kind {
    main: Some("code"),
    bodies: "buffer, if it mentions one",
    faults: &[
        FaultDoc { code: REFUSED, status: 403, doc: "The script's last value is `false`." },
        FaultDoc {
            code: LIMIT,
            status: 500,
            doc: "The script took too many operations, too much time, or made something too large. The detail says which bound and where; docs/scripts.md lists them.",
        },
        FaultDoc {
            code: ERROR,
            status: 500,
            doc: "The script could not go on. The detail has the reason, with line and column of the policy file.",
        },
        FaultDoc {
            code: TYPE,
            status: 500,
            doc: "The script ended with a value that is neither `true`, `false` nor nothing, or a result is not set. A result that is absent, or of another type than `sets` declares, is so by origin of its value: 400, 502 or 500.",
        },
        FaultDoc {
            code: BUSY,
            status: 503,
            doc: "Too many scripts with a long `time_limit` wait for a thread. Shorten them, or do the work in steps.",
        },
    ],
    examples: &[
        Example {
            title: "The total of an order",
            yaml: r#"
service: example
match: { path: /orders, methods: [POST] }
policy:
  - script:
      code: |
        let lines = request.json.lines ?? [];
        if lines.len() > 50 { deny('orders.too_many', 422, 'At most 50 lines'); }
        out.total = lines.map(|l| int(l.price ?? 0) * int(l.qty ?? 0)).reduce(|a, b| a + b, 0);
        out.label = `${lines.len()} lines`;
      sets: { total: int, label: string }
  - respond: { json: { total: "${total}", label: "${label}" } }
tests:
  - name: prices times quantities
    request: { method: POST, path: /orders, json: { lines: [{ price: 3, qty: 2 }, { price: 5, qty: 1 }] } }
    expect: { status: 200, json: { total: 11, label: "2 lines" } }
  - name: no lines
    request: { method: POST, path: /orders, json: {} }
    expect: { status: 200, json: { total: 0, label: "0 lines" } }
"#,
        },
        Example {
            title: "A decision",
            yaml: r#"
service: example
match: { path: /reports }
policy:
  - script: |
      let wanted = split(request.query.fields ?? '', ',');
      wanted.all(|name| name in ['id', 'name', 'price'])
  - respond: 204
tests:
  - name: known fields
    request: { path: "/reports?fields=id,price" }
    expect: { status: 204 }
  - name: another one
    request: { path: "/reports?fields=id,salary" }
    expect: { status: 403, fault: script.refused }
"#,
        },
    ],
    ..Kind::of::<Script>("script", "Decides or computes in Rhai.", Category::Logic)
};

/// Parameters of `script`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Script {
    /// The code itself; or write `file`.
    #[serde(default)]
    code: Option<Expression>,
    /// A file with the code, beside this policy file: `orders.rhai`.
    #[serde(default)]
    file: Option<Literal>,
    /// Names of variables that it sets as `out.NAME`, with their types; `int?` may stay absent.
    #[serde(default = "none")]
    sets: Entries<Node>,
    /// Longest time of one run. Above 5ms it runs on a thread of its own.
    #[serde(default)]
    time_limit: Option<DurationValue>,
}

fn none() -> Entries<Node> {
    Entries::default()
}

impl Assertion for Script {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let time = self.time(cx);
        let declared = text::declared(&self.sets, cx);
        let written = Written::of(self.code.as_ref(), self.file.as_ref(), step.span, cx);
        let script = written.and_then(|written| written.compile(&declared, cx));
        let slots = text::set(&declared, script.as_ref().map(|(script, _)| script), cx);
        let (script, places) = script?;
        let step = ScriptStep { script, places, slots, time: time? };
        match step.time {
            Some(time) if time > SCRIPT_TIME => Compiled::waits(LongScript(Arc::new(step))),
            _ => Compiled::plain(step),
        }
    }
}

impl Script {
    fn time(&self, cx: &mut Compile<'_>) -> Option<Option<Duration>> {
        let Some(limit) = self.time_limit else { return Some(None) };
        if limit.duration.is_zero() || limit.duration > SCRIPT_TIME_MAX {
            let message = "a script takes more than 0 and at most 1s";
            let help = "above 5ms it runs on a thread of a small pool; longer work belongs behind the gateway";
            return cx.refuse("policy.bad_value", limit.span, message, help);
        }
        Some(Some(limit.duration))
    }
}

/// A compiled script.
struct ScriptStep {
    script: Interpreted,
    places: text::Places,
    slots: Vec<Declared>,
    time: Option<Duration>,
}

impl Plain for ScriptStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let ended = self.script.run_on(x, self.budget(x));
        self.conclude(x, ended)
    }
}

impl ScriptStep {
    fn budget(&self, x: &Exchange) -> Budget {
        let budget = x.budget();
        Budget { time: self.time.unwrap_or(budget.time), ..budget }
    }

    fn conclude(&self, x: &mut Exchange, ended: Ended) -> Verdict {
        let at = ended.at.map(|at| self.places.of(at));
        let detail = |why: &str| match &at {
            Some(at) => format!("{at}: {why}"),
            None => why.to_owned(),
        };
        let broken = |code: &'static str, why: &str| {
            Verdict::Fault(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, code, detail(why)))
        };
        match ended.ending {
            Ending::Value(value, results) => self.accept(x, &value, results),
            Ending::Denied { code, status, text } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                let fault = Fault::denied(status, code, detail("denied by the script"));
                Verdict::Fault(match text {
                    Some(text) => fault.with_text(text),
                    None => fault,
                })
            }
            Ending::Failed { code, detail: why } => {
                Verdict::Fault(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, code, detail(&why)))
            }
            Ending::Limit(why) => broken(LIMIT, why),
            Ending::Fault(mut fault) => {
                fault.detail = detail(&fault.detail);
                Verdict::Fault(if fault.code == "expression.error" { fault.with_code(ERROR) } else { fault })
            }
        }
    }

    fn accept(&self, x: &mut Exchange, value: &Value, found: Vec<Option<Value>>) -> Verdict {
        match value.view() {
            Val::Absent | Val::Bool(true) => {}
            Val::Bool(false) => {
                let fault = Fault::denied(StatusCode::FORBIDDEN, REFUSED, "the script ended with false");
                return Verdict::Fault(fault);
            }
            other => {
                let why = format!(
                    "the script ended with {}: it answers true, false or nothing",
                    with_article(other.type_word())
                );
                return Verdict::Fault(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, TYPE, why));
            }
        }
        match results(&self.slots, found) {
            Ok(values) => {
                for (slot, value) in values {
                    x.set(slot, value);
                }
                Verdict::Passed
            }
            Err((origin, why)) => Verdict::Fault(fault_by(origin, TYPE, why)),
        }
    }
}

/// A script that may take longer than a worker can spare.
struct LongScript(Arc<ScriptStep>);

/// The threads of long scripts; nothing where the system gives none.
fn pool() -> Option<&'static HashPool> {
    static POOL: OnceLock<Option<HashPool>> = OnceLock::new();
    POOL.get_or_init(|| HashPool::named("script", POOL_THREADS, POOL_QUEUE_MAX).ok()).as_ref()
}

impl Waits for LongScript {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let busy = || {
            let fault = Fault::broken(StatusCode::SERVICE_UNAVAILABLE, BUSY, "too many long scripts wait for a thread");
            Flow::Now(Verdict::Fault(fault.with_retry_after(BUSY_RETRY_S)))
        };
        let (step, loaded) = (self.0.clone(), self.0.script.load(x, self.0.budget(x)));
        let Some(Ok(receiver)) = pool().map(|pool| pool.try_submit(move || step.script.run(loaded))) else {
            return busy();
        };
        Flow::Later(Box::pin(async move {
            match receiver.await {
                Ok(ended) => self.0.conclude(x, ended),
                Err(_) => {
                    let detail = "the script's thread ended without an answer";
                    Verdict::Fault(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, ERROR, detail))
                }
            }
        }))
    }
}
