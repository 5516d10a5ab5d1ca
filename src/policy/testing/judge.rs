//! What was expected beside what was seen.

use std::time::Duration;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::engine::program::StepMeta;
use crate::engine::trace::{Traced, TracedVerdict};
use crate::policy::testing::case::{Case, TestExchange};
use crate::policy::testing::expect::{Single, StepWord, Upstream, WantCall};
use crate::policy::testing::seen::{Seen, SentCall, field, texts_of};
use crate::policy::testing::text::Bench;
use crate::policy::testing::transport::StandIns;
use crate::policy::testing::want::{Extent, Miss, Want, shown};
use crate::source::{Name, Span};

/// Everything wrong with one exchange of a case.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub misses: Vec<Miss>,
    pub trace: Vec<TraceLine>,
    /// Number of the exchange from 1, where there are several.
    pub exchange: Option<usize>,
    /// How the exchange went, in one line.
    pub outcome: Option<String>,
}

/// One step of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceLine {
    /// Index path among the service's steps, such as `3.then.1`.
    pub path: String,
    /// Its `name:`, else the assertion's.
    pub name: String,
    pub assertion: String,
    /// `file:line`
    pub place: String,
    /// `passed`, `ended (respond)`, `denied CODE`, `broken CODE`.
    pub verdict: String,
    /// On the test's clock, since the case began.
    pub at: Duration,
    /// Variables that it changed, with their new values; credentials as the short hash of records.
    pub changed: Vec<(String, String)>,
}

impl TraceLine {
    /// With its values put through `shown`.
    pub(super) fn with_values(mut self, shown: impl Fn(String) -> String) -> TraceLine {
        for (_, value) in &mut self.changed {
            *value = shown(std::mem::take(value));
        }
        self
    }
}

impl Problem {
    /// A problem of the case itself.
    pub fn of_case(span: Span, expected: &str, got: String) -> Problem {
        let miss = Miss { span, at: String::new(), expected: expected.to_owned(), got };
        Problem { misses: vec![miss], trace: Vec::new(), exchange: None, outcome: None }
    }

    /// Notes which of several exchanges it was.
    pub fn in_exchange(self, index: usize, of: usize) -> Problem {
        Problem { exchange: (of > 1).then_some(index + 1), ..self }
    }
}

/// One exchange before the judge.
pub(super) struct Judge<'j> {
    pub case: &'j Case,
    pub exchange: &'j TestExchange,
    pub seen: &'j Seen,
    pub bench: &'j Bench<'j>,
}

impl Judge<'_> {
    /// Everything that differs, with the trace; nothing where all is as expected.
    pub fn problem(&self, broken_answers: Vec<(usize, String)>) -> Option<Problem> {
        let mut misses = Vec::new();
        for (at, why) in broken_answers {
            let span = self.case.world.upstream.get(at).map_or(self.exchange.span, |stand_in| stand_in.span);
            misses.push(miss(span, "given.upstream", "an answer that can be made", why));
        }
        self.singles(&mut misses);
        self.service(&mut misses);
        for (name, want) in &self.exchange.expect.headers {
            let got = field(&self.seen.headers, name);
            want.check(got.as_ref(), Extent::Exact, &format!("headers.{name}"), self.bench, &mut misses);
        }
        self.json_paths(&mut misses);
        self.upstream(&mut misses);
        self.steps(&mut misses);
        self.variables(&mut misses);
        self.audit(&mut misses);
        self.metrics(&mut misses);
        if misses.is_empty() {
            return None;
        }
        Some(Problem { misses, trace: self.trace(), exchange: None, outcome: Some(self.outcome()) })
    }

    fn outcome(&self) -> String {
        let (seen, service) = (self.seen, self.seen.service_name());
        match &seen.fault {
            Some((code, detail)) if detail.is_empty() => format!("{} by {service}, fault {code}", seen.status),
            Some((code, detail)) => format!("{} by {service}, fault {code}: {detail}", seen.status),
            None => format!("{} by {service}, ended by {}", seen.status, seen.ended_by),
        }
    }

    fn singles(&self, misses: &mut Vec<Miss>) {
        let seen = self.seen;
        let text = |text: &str| Some(Json::String(text.to_owned()));
        for (single, want) in &self.exchange.expect.single {
            let extent = if *single == Single::JsonHas { Extent::Part } else { Extent::Exact };
            let got = match single {
                Single::Service => text(seen.service_name()),
                Single::Status => Some(Json::from(seen.status)),
                Single::Fault => text(seen.fault.as_ref().map_or("none", |(code, _)| code)),
                Single::EndedBy => text(seen.ended_by),
                Single::Verdict => text(seen.verdict),
                Single::Json | Single::JsonHas => match seen.json() {
                    Some(json) => Some(json.clone()),
                    // What is no JSON is shown as the text that it is.
                    None => std::str::from_utf8(&seen.body).ok().filter(|body| !body.is_empty()).and_then(text),
                },
                Single::Text => std::str::from_utf8(&seen.body).ok().and_then(text),
                Single::BodySha256 => text(&data_encoding::HEXLOWER.encode(&Sha256::digest(&seen.body))),
            };
            want.check(got.as_ref(), extent, single.word(), self.bench, misses);
        }
    }

    /// Without a word about it, the tested service answers; in a sequence any may.
    fn service(&self, misses: &mut Vec<Miss>) {
        let said = self.exchange.expect.single.iter().any(|(single, _)| *single == Single::Service);
        let got = self.seen.service_name();
        if !said && self.case.exchanges.len() == 1 && got != &*self.case.suite {
            let expected = format!("\"{}\", the tested one", self.case.suite);
            let why = match got {
                "none" => "no match rule takes the request; where that is meant, write `service: none`".to_owned(),
                other => format!("where that one is meant, write `service: {other}`"),
            };
            misses.push(miss(self.exchange.span, "service", &expected, format!("\"{got}\" ({why})")));
        }
    }

    fn upstream(&self, misses: &mut Vec<Miss>) {
        let calls = &self.seen.calls;
        for call in calls.iter().filter(|call| call.unexpected) {
            let expected = "requests that a stand-in of `given: upstream` takes";
            let got = format!("unexpected_upstream: {}", said(call));
            misses.push(miss(self.exchange.span, "upstream", expected, got));
        }
        let Some((span, wanted)) = &self.exchange.expect.upstream else { return };
        let all = || match calls.is_empty() {
            true => "no request".to_owned(),
            false => calls.iter().map(said).collect::<Vec<_>>().join(", "),
        };
        match wanted {
            Upstream::None if calls.is_empty() => {}
            Upstream::None => misses.push(miss(*span, "upstream", "no request", all())),
            Upstream::One if calls.len() == 1 => {}
            Upstream::One => misses.push(miss(*span, "upstream", "one request", all())),
            Upstream::List(wanted) => {
                if wanted.len() != calls.len() {
                    misses.push(miss(*span, "upstream", &format!("{} requests", wanted.len()), all()));
                }
                for (index, (want, call)) in wanted.iter().zip(calls).enumerate() {
                    self.call(want, call, &format!("upstream[{index}]"), misses);
                }
            }
            Upstream::AnyOrder(wanted) => {
                if wanted.len() != calls.len() {
                    let expected = format!("{} requests", wanted.len());
                    misses.push(miss(*span, "upstream_any_order", &expected, all()));
                }
                let fits = |want: usize, call: usize| match (wanted.get(want), calls.get(call)) {
                    (Some(want), Some(call)) => {
                        let mut misses = Vec::new();
                        self.call(want, call, "", &mut misses);
                        misses.is_empty()
                    }
                    _ => false,
                };
                for (index, want) in
                    unpaired(wanted.len(), calls.len(), fits).into_iter().filter_map(|at| Some((at, wanted.get(at)?)))
                {
                    let at = format!("upstream_any_order[{index}]");
                    misses.push(miss(want.span, &at, "a request like this", all()));
                }
            }
        }
    }

    fn json_paths(&self, misses: &mut Vec<Miss>) {
        for (query, want) in &self.exchange.expect.json_path {
            let got = self.seen.json().and_then(|json| query.of(json));
            want.check(got.as_ref(), Extent::Exact, &format!("json_path {}", query.text), self.bench, misses);
        }
    }

    fn metrics(&self, misses: &mut Vec<Miss>) {
        for metric in &self.exchange.expect.metrics {
            let got = number(&self.seen.metrics, &metric.name.name, &metric.labels).map(Json::from);
            let at = format!("metrics.{}", metric.name.name);
            metric.value.check(got.as_ref(), Extent::Exact, &at, self.bench, misses);
        }
    }

    fn call(&self, want: &WantCall, call: &SentCall, at: &str, misses: &mut Vec<Miss>) {
        let text = |text: &str| Some(Json::String(text.to_owned()));
        for (word, want) in &want.fields {
            let extent = if *word == "json_has" { Extent::Part } else { Extent::Exact };
            let got = match *word {
                "method" => text(&call.method),
                "path" => text(&call.target),
                "host" => field(&call.headers, "host"),
                "text" => std::str::from_utf8(&call.body).ok().and_then(text),
                _ => serde_json::from_slice(&call.body).ok(),
            };
            want.check(got.as_ref(), extent, &format!("{at}.{word}"), self.bench, misses);
        }
        for (name, want) in &want.headers {
            let got = field(&call.headers, name);
            want.check(got.as_ref(), Extent::Exact, &format!("{at}.headers.{name}"), self.bench, misses);
        }
    }

    fn steps(&self, misses: &mut Vec<Miss>) {
        for (word, name) in &self.exchange.expect.steps {
            let steps = &self.seen.compiled().steps;
            if !steps.iter().any(|step| is_called(step, name)) {
                let service = self.seen.service_name();
                let got = format!("`{service}` has no step called `{}`", name.name);
                misses.push(miss(name.span, &format!("steps.{}", word.word()), "a step", got));
                continue;
            }
            let verdicts = || {
                let of_step = self
                    .seen
                    .trace
                    .iter()
                    .filter(|traced| steps.get(usize::from(traced.step)).is_some_and(|step| is_called(step, name)));
                of_step.map(|traced| &traced.verdict)
            };
            let holds = match word {
                StepWord::Passed => {
                    verdicts().any(|verdict| matches!(verdict, TracedVerdict::Passed | TracedVerdict::Ended(_)))
                        || self.is_entered(name) && self.fault_from(name).is_none()
                }
                StepWord::NotRun => !self.has_run(name),
                StepWord::Denied => {
                    let from_inside = || self.fault_from(name).filter(|_| self.is_entered(name));
                    verdicts().chain(from_inside()).any(|verdict| matches!(verdict, TracedVerdict::Denied(_)))
                }
                StepWord::WouldDeny => verdicts().any(|verdict| matches!(verdict, TracedVerdict::WouldDeny(_))),
                StepWord::WouldBreak => verdicts().any(|verdict| matches!(verdict, TracedVerdict::WouldBreak(_))),
            };
            if !holds {
                let got = verdicts().map(verdict_word).collect::<Vec<_>>().join(", ");
                let got = if got.is_empty() { "not run".to_owned() } else { got };
                let expected = word.word().replace('_', " ");
                misses.push(miss(name.span, &format!("steps: {}", name.name), &expected, got));
            }
        }
    }

    /// Whether a step of this name ran, or anything that stands in it: a composite has few lines of its own.
    fn has_run(&self, name: &Name) -> bool {
        self.seen.trace.iter().any(|traced| traced.verdict != TracedVerdict::Skipped && self.is_of(traced, name))
    }

    /// Whether a line is of a step of this name, or of anything that stands in it.
    fn is_of(&self, traced: &Traced, name: &Name) -> bool {
        let step = self.seen.compiled().steps.get(usize::from(traced.step));
        step.is_some_and(|step| is_called(step, name) || self.is_inside(step, name))
    }

    /// Whether a step stands in one of this name.
    fn is_inside(&self, step: &StepMeta, name: &Name) -> bool {
        let is_in = |outer: &StepMeta| step.path.strip_prefix(&*outer.path).is_some_and(|rest| rest.starts_with('.'));
        self.seen.compiled().steps.iter().any(|outer| is_called(outer, name) && is_in(outer))
    }

    /// Whether a composite of this name was entered: some have no line of their own.
    fn is_entered(&self, name: &Name) -> bool {
        let steps = &self.seen.compiled().steps;
        let lines = self.seen.trace.iter().filter(|traced| traced.verdict != TracedVerdict::Skipped);
        lines.filter_map(|traced| steps.get(usize::from(traced.step))).any(|step| self.is_inside(step, name))
    }

    /// The verdict that the request's fault came from, where it came out of a step of this name: one that a composite
    /// has caught did not.
    fn fault_from(&self, name: &Name) -> Option<&TracedVerdict> {
        let (code, _) = self.seen.fault.as_ref()?;
        let is_it = |traced: &&Traced| match &traced.verdict {
            TracedVerdict::Denied(raised) | TracedVerdict::Broken(raised) => raised == code,
            _ => false,
        };
        let last = self.seen.trace.iter().rfind(is_it)?;
        self.is_of(last, name).then_some(&last.verdict)
    }

    fn variables(&self, misses: &mut Vec<Miss>) {
        let outputs = self.exchange.expect.outputs.iter().map(|one| ("outputs", one));
        let variables = self.exchange.expect.variables.iter().map(|one| ("variables", one)).chain(outputs);
        for ((what, (name, want)), got) in variables.zip(&self.seen.variables) {
            let at = format!("{what}.{}", name.name);
            match got {
                Some(got) => {
                    let before = misses.len();
                    want.check(got.as_ref(), Extent::Exact, &at, self.bench, misses);
                    if self.seen.is_marked(&name.name) {
                        misses.iter_mut().skip(before).for_each(Miss::conceal);
                    }
                }
                None => {
                    let got = format!("no step of `{}` sets it", self.seen.service_name());
                    misses.push(miss(name.span, &at, &want.describe(self.bench), got));
                }
            }
        }
    }

    fn audit(&self, misses: &mut Vec<Miss>) {
        let expect = &self.exchange.expect;
        let Some(record) = &self.seen.record else {
            if expect.audit_level.is_some() || !expect.audit_fields.is_empty() || !expect.audit_without.is_empty() {
                misses.push(miss(self.exchange.span, "audit", "a record", "none was written".to_owned()));
            }
            return;
        };
        if let Some(want) = &expect.audit_level {
            let level = Json::String(record.level.word().to_owned());
            want.check(Some(&level), Extent::Exact, "audit.level", self.bench, misses);
        }
        for (name, want) in &expect.audit_fields {
            let got = record.fields.iter().rev().find(|(known, _)| **known == **name).map(|(_, value)| value);
            want.check(got, Extent::Exact, &format!("audit.fields.{name}"), self.bench, misses);
        }
        if expect.audit_without.is_empty() {
            return;
        }
        let texts = texts_of(record);
        for want in &expect.audit_without {
            self.without(want, &texts, misses);
        }
    }

    fn without(&self, want: &Want, texts: &[String], misses: &mut Vec<Miss>) {
        let got = match want.text(self.bench) {
            Ok(text) if !texts.iter().any(|held| held.contains(&text)) => return,
            // The text itself is a secret more often than not.
            Ok(_) => "the record holds it".to_owned(),
            Err(why) => why,
        };
        misses.push(miss(want.span, "audit.contains_none", "a record without this text", got));
    }

    fn trace(&self) -> Vec<TraceLine> {
        let steps = &self.seen.compiled().steps;
        let line = |traced: &Traced| {
            let step = steps.get(usize::from(traced.step))?;
            Some(TraceLine {
                at: Duration::from_nanos(traced.at_ns),
                changed: self.seen.changed(traced),
                path: step.path.to_string(),
                name: step.name.to_string(),
                assertion: step.assertion.to_string(),
                place: step.place.to_string(),
                verdict: verdict_word(&traced.verdict),
            })
        };
        self.seen.trace.iter().filter_map(line).collect()
    }
}

/// Stand-ins that were to be used and were not.
pub(super) fn unused(case: &Case, stand_ins: &StandIns) -> Option<Problem> {
    case.world.upstream.iter().zip(stand_ins.used()).find_map(|(stand_in, used)| {
        let times = |count: u32| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        match stand_in.times {
            Some(wanted) if used < wanted => Some(Problem::of_case(
                stand_in.span,
                &format!("used {}", times(wanted)),
                format!("used {}", times(used)),
            )),
            None if used == 0 && stand_in.own => {
                let got = "never used; where that is meant, write `times: 0`".to_owned();
                Some(Problem::of_case(stand_in.span, "used at least once", got))
            }
            _ => None,
        }
    })
}

fn miss(span: Span, at: &str, expected: &str, got: String) -> Miss {
    Miss { span, at: at.to_owned(), expected: expected.to_owned(), got }
}

/// The sum of all series of a name that have some labels, in Prometheus' text format.
fn number(metrics: &str, name: &str, labels: &[(String, String)]) -> Option<f64> {
    let values = metrics.lines().filter_map(|line| {
        let (series, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let has = |(label, value): &(String, String)| {
            let pair = format!("{label}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
            [format!("{{{pair}"), format!(",{pair}")].iter().any(|pair| series.contains(pair))
        };
        let is_series = series.is_empty() || series.starts_with('{');
        (is_series && labels.iter().all(has)).then(|| value.parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}

/// Indexes of the wishes that find no partner of their own, where as many as possible do (Kuhn's method).
fn unpaired(wishes: usize, partners: usize, fits: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    fn pair(
        wish: usize,
        fits: &impl Fn(usize, usize) -> bool,
        taken: &mut [Option<usize>],
        tried: &mut Vec<usize>,
    ) -> bool {
        for partner in 0..taken.len() {
            if tried.contains(&partner) || !fits(wish, partner) {
                continue;
            }
            tried.push(partner);
            let owner = taken.get(partner).copied().flatten();
            if owner.is_none_or(|owner| pair(owner, fits, taken, tried)) {
                if let Some(place) = taken.get_mut(partner) {
                    *place = Some(wish);
                }
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; partners];
    (0..wishes).filter(|wish| !pair(*wish, &fits, &mut taken, &mut Vec::new())).collect()
}

/// A request in a few words.
fn said(call: &SentCall) -> String {
    let host = shown(field(&call.headers, "host").as_ref());
    format!("{} {} (host {})", call.method, call.target, host.trim_matches('"'))
}

fn is_called(step: &StepMeta, name: &Name) -> bool {
    [&*step.name, &*step.assertion, &*step.path].contains(&name.name.as_str())
}

fn verdict_word(verdict: &TracedVerdict) -> String {
    match verdict {
        TracedVerdict::Passed => "passed".into(),
        TracedVerdict::Ended(by) => format!("ended ({})", by.word()),
        TracedVerdict::Denied(code) => format!("denied {code}"),
        TracedVerdict::Broken(code) => format!("broken {code}"),
        TracedVerdict::Entered => "entered".into(),
        TracedVerdict::Round => "round".into(),
        TracedVerdict::Skipped => "skipped".into(),
        TracedVerdict::WouldDeny(code) => format!("would deny {code}"),
        TracedVerdict::WouldBreak(code) => format!("would break {code}"),
    }
}
