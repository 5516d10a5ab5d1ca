//! `limit_concurrency`: limits requests in flight.
//!
//! A slot is held until the answer has been written, the client has left, or the request failed in any way. Those
//! who wait are served in the order in which they came. Slots are counted in this process.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::wheel::Timer;
use crate::compile::counted::Owner;
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Flow, Verdict, Waits};
use crate::engine::read::Slot;
use crate::engine::value::{Type, Value};
use crate::fault::Fault;
use crate::secret::keyed_u128;
use crate::source::{Diagnostic, DurationValue, Literal, Spanned, Text};
use crate::store::slots::{Permit, Taken, Waiting};

/// Longest time that a request may wait for a slot.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// When to try again: nobody knows when a slot is free.
const RETRY_AFTER_S: u64 = 1;

pub const KIND: Kind = Kind {
    main: Some("max"),
    sets: &[
        Output {
            name: "concurrency.current",
            ty: Type::Int,
            absent: false,
            doc: "Requests that hold a slot, this one counted.",
        },
        Output { name: "concurrency.max", ty: Type::Int, absent: false, doc: "The most that may." },
    ],
    faults: &[
        FaultDoc {
            code: "limit_concurrency.exceeded",
            status: 429,
            doc: "All slots of this `per` are held, and none came free in time. With `Retry-After`.",
        },
        FaultDoc {
            code: "limit_concurrency.full",
            status: 503,
            doc: "All slots are held, and none came free in time. With `Retry-After`.",
        },
        FaultDoc {
            code: "limit_concurrency.absent",
            status: 400,
            doc: "What `per` reads is absent. Give it a default: `${auth.client ?? 'none'}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "Two reports at once for each caller, and never more than fifty",
        yaml: r#"
service: example
match: { path: /report }
policy:
  - limit_concurrency: 50
  - { limit_concurrency: { max: 2, per: "${request.client.ip}", wait: 2s }, as: own }
  - respond: { json: { all: "${concurrency.current}", max: "${concurrency.max}", own: "${own.current}" } }
tests:
  - name: a slot is free again when the answer has left
    exchanges:
      - { request: {}, expect: { status: 200, json: { all: 1, max: 50, own: 1 } } }
      - { request: {}, expect: { status: 200, json: { all: 1, max: 50, own: 1 } } }
"#,
    }],
    ..Kind::of::<LimitConcurrency>("limit_concurrency", "Limits requests in flight.", Category::Traffic)
};

/// Parameters of `limit_concurrency`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitConcurrency {
    /// Requests at once.
    max: Spanned<u64>,
    /// Whom it counts, such as `${auth.subject}`; everybody together without it.
    #[serde(default)]
    per: Option<Text>,
    /// How long a request waits for a slot, at most 5 s.
    #[serde(default)]
    wait: Option<DurationValue>,
    /// How many may wait; as many as `max` without it.
    #[serde(default)]
    queue: Option<u64>,
    /// Steps of other services with this name share the slots.
    #[serde(default)]
    name: Option<Literal>,
    /// Slots of several processes together: not in this version.
    #[serde(default)]
    shared: Option<Spanned<bool>>,
    /// What happens when the shared store fails. No effect while slots are counted in this process.
    #[serde(default)]
    on_store_error: OnStoreError,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
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

impl Assertion for LimitConcurrency {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if self.on_store_error != OnStoreError::default() {
            let message = "`on_store_error` has no effect here: slots are counted in memory, which does not fail";
            cx.report(Diagnostic::warning("policy.no_effect", step.span, message).with_help("remove `on_store_error`"));
        }
        if let Some(shared) = self.shared.filter(|shared| shared.value) {
            let message = "slots cannot be shared between processes in this version";
            let help = "remove it, and divide `max` by the number of processes";
            return cx.refuse("policy.not_supported", shared.span, message, help);
        }
        if self.max.value == 0 {
            let help = "write at least 1; to let nobody through, `raise` a fault";
            return cx.refuse("policy.bad_value", self.max.span, "0 lets nobody through", help);
        }
        let wait = match self.wait {
            None => Duration::ZERO,
            Some(wait) if wait.duration > WAIT_MAX => {
                let help = "write `wait: 5s` or less; whoever waits longer has given up";
                return cx.refuse("policy.bad_value", wait.span, "nobody waits longer than 5 s", help);
            }
            Some(wait) => wait.duration,
        };
        let per = match &self.per {
            None => None,
            Some(text) if text.as_str() == "all" => None,
            Some(text) => Some(cx.counted_per(text)?),
        };
        let owner = cx.counter_owner(self.name.as_ref(), step)?;
        let renamed = step.renamed();
        let current = cx.out(KIND.sets.first()?, renamed);
        let most = cx.out(KIND.sets.get(1)?, renamed);
        let max = self.max.value;
        let line_max = if wait.is_zero() { 0 } else { self.queue.unwrap_or(max) };
        Compiled::waits(LimitConcurrencyStep { max, per, wait, line_max, owner, current, most })
    }
}

struct LimitConcurrencyStep {
    max: u64,
    /// `None` counts everybody together.
    per: Option<TextParam>,
    wait: Duration,
    line_max: u64,
    owner: Owner,
    current: Slot,
    most: Slot,
}

impl Waits for LimitConcurrencyStep {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let key = match self.key(x) {
            Ok(key) => key,
            Err(fault) => return Flow::Now(Verdict::Fault(fault)),
        };
        let waiting = match x.worker.shared.slots.take(key, self.max, self.line_max) {
            Taken::Held(permit, current) => return Flow::Now(self.pass(x, permit, current)),
            Taken::Full => return Flow::Now(Verdict::Fault(self.full())),
            Taken::Waiting(waiting) => waiting,
        };
        let timer = x.worker.wheel.timer();
        timer.set(self.wait);
        Flow::Later(Box::pin(async move {
            match in_time(waiting, timer).await {
                Some(permit) => {
                    let current = x.worker.shared.slots.held(key);
                    self.pass(x, permit, current)
                }
                None => Verdict::Fault(self.full()),
            }
        }))
    }
}

/// The slot, if the turn comes before the time is over.
async fn in_time(mut waiting: Waiting, timer: Timer) -> Option<Permit> {
    poll_fn(|cx| match waiting.poll_turn(cx) {
        Poll::Ready(permit) => Poll::Ready(Some(permit)),
        Poll::Pending => timer.poll_expired(cx).map(|()| None),
    })
    .await
}

impl LimitConcurrencyStep {
    fn key(&self, x: &Exchange) -> Result<u128, Box<Fault>> {
        let per = match &self.per {
            Some(per) => per.read(x)?,
            None => "".into(),
        };
        let counts = [u8::from(self.per.is_some())];
        let (scope, step) = (self.owner.scope.as_bytes(), self.owner.step.as_bytes());
        Ok(keyed_u128("limit_concurrency", &[scope, step, &counts, per.as_bytes()]))
    }

    fn pass(&self, x: &mut Exchange, permit: Permit, current: u64) -> Verdict {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        x.set(self.current, int(current));
        x.set(self.most, int(self.max));
        x.permits.push(permit);
        Verdict::Passed
    }

    fn full(&self) -> Box<Fault> {
        let detail = format!("all {} slots are held", self.max);
        let fault = match &self.per {
            Some(_) => Fault::denied(StatusCode::TOO_MANY_REQUESTS, "limit_concurrency.exceeded", detail),
            None => Fault::broken(StatusCode::SERVICE_UNAVAILABLE, "limit_concurrency.full", detail),
        };
        fault.with_retry_after(RETRY_AFTER_S)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::assertions::trial::{Trial, refusals};
    use crate::clock::wheel::{TICK, Wheel};
    use crate::engine::serve::answer;
    use crate::store::slots::Slots;

    /// Takes the slot of its name twice in one request where that is asked for.
    fn twice(params: &str) -> String {
        format!(
            "  - limit_concurrency: {{ max: 1, name: one, {params} }}
  - when: exists(request.query.twice)
    as: second
    limit_concurrency: {{ max: 1, name: one, {params} }}
  - respond: 204"
        )
    }

    #[test]
    fn a_slot_is_free_again_whatever_happened() {
        let trial = Trial::of(&twice(""));
        for _ in 0..3 {
            let refused = trial.get("/?twice");
            let seen = (refused.status, refused.fault.as_deref(), refused.header("retry-after"));
            assert_eq!(seen, (503, Some("limit_concurrency.full"), Some("1")));
            assert_eq!(trial.get("/").status, 204);
        }
        let trial = Trial::of(&twice("per: \"${request.client.ip}\""));
        let refused = trial.get("/?twice");
        let seen = (refused.status, refused.fault.as_deref(), refused.header("retry-after"));
        assert_eq!(seen, (429, Some("limit_concurrency.exceeded"), Some("1")));
        assert_eq!(trial.get("/").status, 204);
    }

    #[test]
    fn waiting_ends_with_a_slot_or_with_time() {
        let slots = Slots::default();
        let Taken::Held(permit, 1) = slots.take(1, 1, 0) else { panic!("no slot") };
        let wheel = Wheel::new();
        let line = || {
            let Taken::Waiting(waiting) = slots.take(1, 1, 1) else { panic!("no place") };
            let timer = wheel.timer();
            timer.set(TICK * 3);
            in_time(waiting, timer)
        };
        let mut cx = Context::from_waker(Waker::noop());
        let mut late = pin!(line());
        assert!(late.as_mut().poll(&mut cx).is_pending());
        (0..5).for_each(|_| wheel.turn());
        assert!(matches!(late.as_mut().poll(&mut cx), Poll::Ready(None)));
        let mut lucky = pin!(line());
        assert!(lucky.as_mut().poll(&mut cx).is_pending());
        drop(permit);
        assert!(matches!(lucky.as_mut().poll(&mut cx), Poll::Ready(Some(_))));
    }

    #[test]
    fn what_cannot_work_does_not_load() {
        let wrong = [
            ("max: 0", "policy.bad_value"),
            ("max: 1, wait: 6s", "policy.bad_value"),
            ("max: 1, per: everybody", "policy.bad_value"),
            ("max: 1, shared: true", "policy.not_supported"),
            ("wait: 1s", "policy.missing_parameter"),
        ];
        for (params, code) in wrong {
            let steps = format!("  - limit_concurrency: {{ {params} }}\n  - respond: 204");
            assert_eq!(refusals(&steps), [code], "{params}");
        }
    }

    /// Requests that want the one slot one after the other, and how many of them stand in the line.
    fn in_line(params: &str, requests: usize) -> usize {
        let trial = Trial::of(&format!("  - limit_concurrency: {{ max: 1, {params} }}\n  - respond: 204"));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(holds) = pin!(answer(trial.begin("/"))).poll(&mut cx) else { panic!("no slot") };
        let mut waiting: Vec<_> = (1..requests).map(|_| Box::pin(answer(trial.begin("/")))).collect();
        let pending =
            waiting.iter_mut().filter_map(|one| one.as_mut().poll(&mut cx).is_pending().then_some(())).count();
        drop((holds, waiting));
        pending
    }

    #[test]
    fn so_many_wait_as_may() {
        assert_eq!(in_line("per: all", 4), 0, "nobody waits without `wait`");
        assert_eq!(in_line("wait: 5s", 4), 1, "as many as `max` without `queue`");
        assert_eq!(in_line("wait: 5s, queue: 2", 4), 2);
        assert_eq!(in_line("wait: 5s, queue: 0", 4), 0);
    }
}
