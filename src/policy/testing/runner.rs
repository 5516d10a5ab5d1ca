//! Running cases: the engine as it serves, on a frozen clock, with stand-ins for the world outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::runtime::{Builder, LocalRuntime};

use crate::body::Body;
use crate::clock::wheel::Wheel;
use crate::clock::{Clock, Frozen};
use crate::engine::exchange::{Client, Exchange};
use crate::engine::program::EndedBy;
use crate::engine::random::Random;
use crate::engine::select::Select;
use crate::engine::serve;
use crate::engine::snapshot::Snapshot;
use crate::engine::trace::{Traced, TracedVerdict};
use crate::engine::value::{Text, Value};
use crate::engine::worker::{Records, Shared, Transport, Worker};
use crate::identity::hash_pool::HashPool;
use crate::identity::throttle::{Guessing, Throttle};
use crate::policy::assertion::Use;
use crate::policy::build::{Environment, Outline, Parsed, SomeServices, rehearse};
use crate::policy::resources::Given;
use crate::policy::testing::case::{Case, TestExchange, usual};
use crate::policy::testing::client::TestClient;
use crate::policy::testing::coverage::Touched;
use crate::policy::testing::judge::{Judge, Problem, unused};
use crate::policy::testing::report::Reached;
use crate::policy::testing::request::Usual;
use crate::policy::testing::seen::{Answered, Seen};
use crate::policy::testing::text::Bench;
use crate::policy::testing::token::Mint;
use crate::policy::testing::transport::StandIns;
use crate::policy::testing::variables::variable;
use crate::server::check_head;
use crate::source::{Diagnostics, Node, Severity, Span};

/// Threads that check passwords; the hashes of tests cost next to nothing.
const HASH_THREADS: usize = 1;
/// Jobs that may wait for them.
const HASH_QUEUE_MAX: usize = 16;
/// Real time after which an exchange counts as hanging: nothing in a test waits for real.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(10);

/// What a set is compiled with: what is given and, for a tested assertion, its name and the text of its inputs.
type Key = (Given, Text, String);

/// What the cases of one run share.
pub(super) struct Runner<'p> {
    parsed: &'p Parsed,
    environment: &'p Environment,
    /// The rules of the set as it is to serve, where they are known.
    pub select: Option<Arc<Select>>,
    /// The rules of all services, once per environment that differs; the error is a text for people.
    outlines: Vec<(Env, Known<Rc<Outline>>)>,
    /// The services that the cases needed, compiled once per `given` that differs.
    sets: Vec<(Given, Known<GivenSet<'p>>)>,
    /// Assertions in use, once per `given` and inputs that differ.
    rehearsals: Vec<(Key, Known<Arc<Snapshot>>)>,
    minted: Mint,
    /// What became of the steps so far.
    pub touched: Touched,
    /// Which services answered the cases of which suite.
    pub reached: Reached,
    hashes: HashPool,
    wheel: Wheel,
    runtime: LocalRuntime,
}

/// Variables of the environment that a case gives.
type Env = BTreeMap<String, String>;

/// What was compiled, or why it does not load.
type Known<T> = Result<T, String>;

/// Services compiled with what cases give.
struct GivenSet<'p> {
    outline: Rc<Outline>,
    services: SomeServices<'p>,
}

/// How a case went.
enum Ran {
    Passed,
    Failed(Box<Problem>),
    /// A request came to a service, here with its place, that is not compiled yet.
    Reached(usize),
}

/// The state that the exchanges of one case share.
struct Stage<'c> {
    case: &'c Case,
    usual: Usual,
    worker: Rc<Worker>,
    frozen: Rc<Frozen>,
    stand_ins: Rc<StandIns>,
    captured: BTreeMap<String, Value>,
    tokens: Vec<Value>,
    random: Random,
    /// Places of the services that answered last.
    services: Vec<usize>,
}

impl<'p> Runner<'p> {
    /// A runner. The error says which part of the machine was not to be had.
    pub fn new(parsed: &'p Parsed, environment: &'p Environment) -> std::io::Result<Runner<'p>> {
        Ok(Runner {
            parsed,
            environment,
            select: None,
            outlines: Vec::new(),
            sets: Vec::new(),
            rehearsals: Vec::new(),
            minted: Mint::default(),
            touched: Touched::default(),
            reached: Reached::new(),
            hashes: HashPool::new(HASH_THREADS, HASH_QUEUE_MAX)?,
            wheel: Wheel::new(),
            runtime: Builder::new_current_thread().enable_time().build_local(Default::default())?,
        })
    }

    /// Runs one case; what is wrong is returned, nothing for a case that passed.
    pub fn run(&mut self, case: &Case) -> Option<Problem> {
        let mut reached = None;
        loop {
            let snapshot = match self.snapshot(case, reached) {
                Ok(snapshot) => snapshot,
                Err(why) => return Some(Problem::of_case(case.span, "the files load with `given`", why)),
            };
            match self.play(case, snapshot, false) {
                Ran::Passed => return None,
                Ran::Failed(problem) => return Some(*problem),
                Ran::Reached(place) => reached = Some(place),
            }
        }
    }

    /// Runs one case on a set of which every service is compiled.
    pub fn run_on(&mut self, case: &Case, snapshot: Arc<Snapshot>) -> Option<Problem> {
        match self.play(case, snapshot, true) {
            Ran::Failed(problem) => Some(*problem),
            Ran::Passed | Ran::Reached(_) => None,
        }
    }

    /// Runs a case from its beginning, as long as it comes only to services that are compiled; `whole` says that
    /// all of them are.
    fn play(&mut self, case: &Case, snapshot: Arc<Snapshot>, whole: bool) -> Ran {
        let mut stage = self.stage(case, snapshot);
        match self.minted.tokens(self.parsed, self.environment, case) {
            Ok(tokens) => stage.tokens = tokens,
            Err(problem) => return Ran::Failed(problem),
        }
        let mut at = 0;
        while let Some(first) = case.exchanges.get(at) {
            let joined = case.exchanges.iter().skip(at + 1).take_while(|exchange| exchange.joins).count();
            let group = case.exchanges.iter().enumerate().skip(at).take(1 + joined);
            let group: Vec<(usize, &TestExchange)> =
                group.flat_map(|one| std::iter::repeat_n(one, one.1.copies as usize)).collect();
            stage.frozen.advance(first.after);
            for _ in 0..first.repeat {
                let problem = self.exchange(&mut stage, &group);
                let missing = stage.services.drain(..).find(|place| !whole && !self.has(case, *place));
                if let Some(place) = missing {
                    return Ran::Reached(place);
                }
                if let Some(problem) = problem {
                    return Ran::Failed(Box::new(problem));
                }
            }
            at += 1 + joined;
        }
        unused(case, &stage.stand_ins).map_or(Ran::Passed, |problem| Ran::Failed(Box::new(problem)))
    }

    /// The sets in which operators' assertions were tested by themselves, one for each.
    pub fn rehearsed(&self) -> Vec<Arc<Snapshot>> {
        let mut seen: Vec<&Text> = Vec::new();
        let mut sets = Vec::new();
        for ((_, name, _), snapshot) in &self.rehearsals {
            if let Ok(snapshot) = snapshot
                && !seen.contains(&name)
            {
                seen.push(name);
                sets.push(snapshot.clone());
            }
        }
        sets
    }

    /// A service that uses an assertion as a case says; equal `given` and inputs, same snapshot.
    fn rehearsal(&mut self, case: &Case, inputs: &Node) -> Result<Arc<Snapshot>, String> {
        let given = &case.world.resources;
        let inputs_text = self.parsed.sources.slice(inputs.span()).to_owned();
        let key = (given.clone(), case.suite.clone(), inputs_text);
        if let Some((_, known)) = self.rehearsals.iter().find(|(known, _)| *known == key) {
            return known.clone();
        }
        let compiled = rehearse(self.parsed, self.environment, given, &Use { name: &case.suite, inputs });
        let snapshot = compiled.map(Arc::new).map_err(|diags| messages(self.parsed, &diags));
        self.rehearsals.push((key, snapshot.clone()));
        snapshot
    }

    /// Whether the service at this place is compiled; in a rehearsal all are.
    fn has(&self, case: &Case, place: usize) -> bool {
        let given = &case.world.resources;
        if case.inputs.is_some() {
            return true;
        }
        let set = self.sets.iter().find(|(known, _)| known == given);
        set.is_none_or(|(_, set)| set.as_ref().is_ok_and(|set| set.services.has(place)))
    }

    /// The set with what a case gives, with its service compiled and the one that it has reached; equal
    /// `given`, same set.
    fn snapshot(&mut self, case: &Case, reached: Option<usize>) -> Result<Arc<Snapshot>, String> {
        if let Some(inputs) = &case.inputs {
            return self.rehearsal(case, inputs);
        }
        let given = &case.world.resources;
        let at = match self.sets.iter().position(|(known, _)| known == given) {
            Some(at) => at,
            None => {
                let set = self.set(given);
                self.sets.push((given.clone(), set));
                self.sets.len() - 1
            }
        };
        let Some((_, set)) = self.sets.get_mut(at) else { return Err(String::new()) };
        let set = set.as_mut().map_err(|why| why.clone())?;
        let mut diags = Diagnostics::new();
        for place in set.outline.place(&case.suite).into_iter().chain(reached) {
            if !set.services.has(place) {
                set.services.compile(place, &mut diags);
            }
        }
        if diags.has_errors() { Err(messages(self.parsed, &diags)) } else { Ok(set.services.snapshot()) }
    }

    fn set(&mut self, given: &Given) -> Result<GivenSet<'p>, String> {
        let (parsed, environment) = (self.parsed, self.environment);
        let mut diags = Diagnostics::new();
        let known = self.outlines.iter().find(|(known, _)| *known == given.env).map(|(_, known)| known.clone());
        let outline = known.unwrap_or_else(|| {
            let outline = Outline::new(parsed, environment, &given.env, self.select.as_ref(), &mut diags);
            let outline = outline.map(Rc::new).ok_or_else(|| messages(parsed, &diags));
            self.outlines.push((given.env.clone(), outline.clone()));
            outline
        })?;
        let services = outline.with(parsed, environment, given, &mut diags);
        let services = services.ok_or_else(|| messages(parsed, &diags))?;
        Ok(GivenSet { outline, services })
    }

    fn stage<'c>(&self, case: &'c Case, snapshot: Arc<Snapshot>) -> Stage<'c> {
        let throttle = Throttle::new(Guessing::default());
        let shared = Shared::new(self.environment.limits.clone(), 1, throttle, self.hashes.clone(), snapshot);
        let frozen = Frozen::at(case.world.clock);
        let seed = case.world.seed;
        let stand_ins = Rc::new(StandIns::new(case.world.upstream.clone(), frozen.clone(), seed));
        let worker = Worker::new(
            0,
            Arc::new(shared),
            Clock::Frozen(frozen.clone()),
            self.wheel.clone(),
            Random::seeded(seed),
            Transport::Given(stand_ins.clone()),
            Records::Kept(RefCell::default()),
        );
        Stage {
            case,
            usual: match (&case.inputs, self.parsed.documents.services.get(&case.suite)) {
                (None, Some(service)) => usual(service, self.environment, &case.world),
                _ => Usual::of_anything(self.environment),
            },
            worker: Rc::new(worker),
            frozen,
            stand_ins,
            captured: BTreeMap::new(),
            tokens: Vec::new(),
            random: Random::seeded(seed),
            services: Vec::new(),
        }
    }

    /// Sends one request, or several at once, and judges what came of them.
    fn exchange(&mut self, stage: &mut Stage<'_>, group: &[(usize, &TestExchange)]) -> Option<Problem> {
        let of = stage.case.exchanges.len();
        let mut made = Vec::with_capacity(group.len());
        for (index, exchange) in group {
            let request = stage.case.exchanges.get(exchange.request).and_then(|first| first.made.as_ref());
            let Some(request) = request else {
                let got = "none; this is a mistake of the program".to_owned();
                return Some(Problem::of_case(exchange.span, "a request to send", got).in_exchange(*index, of));
            };
            match request.make(&stage.usual, &stage.bench(None)) {
                Ok((parts, body)) => made.push((stage.client(&request.client), parts, body)),
                Err(why) => {
                    let problem = Problem::of_case(request.span, "a request that can be sent", why);
                    return Some(problem.in_exchange(*index, of));
                }
            }
        }
        let Some(all) = self.send(stage, group, made) else {
            let got = format!("the exchange still waits after {} real seconds", EXCHANGE_TIME_MAX.as_secs());
            let (index, exchange) = group.first()?;
            return Some(Problem::of_case(exchange.span, "an exchange that ends", got).in_exchange(*index, of));
        };
        stage.services.extend(all.iter().filter_map(|seen| seen.service));
        let reached = self.reached.entry(stage.case.suite.clone()).or_default();
        reached.extend(all.iter().filter_map(|seen| seen.compiled().name.clone()));
        let counts = group.iter().any(|(_, exchange)| !exchange.expect.metrics.is_empty());
        let metrics = if counts { stage.worker.shared.metrics.render() } else { String::new() };
        let mut broken = stage.stand_ins.take_broken();
        let mut captured = Vec::new();
        for (sender, ((index, exchange), mut seen)) in group.iter().zip(all).enumerate() {
            seen.calls = stage.stand_ins.sent_by(sender);
            seen.metrics.clone_from(&metrics);
            self.touched.add(&seen.trace, &seen.compiled().steps);
            let judge = Judge { case: stage.case, exchange, seen: &seen, bench: &stage.bench(Some(&seen)) };
            let problem = match judge.problem(std::mem::take(&mut broken)) {
                Some(problem) => Some(problem),
                None => match capture(stage, exchange, &seen) {
                    Ok(values) => {
                        captured.extend(values);
                        None
                    }
                    Err(problem) => Some(*problem),
                },
            };
            if let Some(problem) = problem {
                return Some(problem.in_exchange(*index, of));
            }
        }
        stage.captured.extend(captured);
        None
    }

    /// Sends requests at once. Where all that are left wait for the test's clock, it moves on. `None` where one hangs.
    fn send(&self, stage: &Stage<'_>, group: &[(usize, &TestExchange)], made: Vec<Made>) -> Option<Vec<Seen>> {
        let stand_ins = &stage.stand_ins;
        stand_ins.begin(group.len());
        let sending = made.into_iter().zip(group).map(|((client, parts, body), (_, exchange))| {
            Sending::Running(Box::pin(send(&stage.worker, client, parts, body, exchange, stage.case)))
        });
        let mut sending: Vec<Sending<'_>> = sending.collect();
        let all = poll_fn(|cx| {
            loop {
                let mut left = 0;
                for (sender, one) in sending.iter_mut().enumerate() {
                    stand_ins.go_on(sender);
                    left += usize::from(!one.is_done(cx));
                }
                if left == 0 {
                    return Poll::Ready(());
                }
                if !stand_ins.let_time_pass(left) {
                    return Poll::Pending;
                }
            }
        });
        self.runtime.block_on(async { tokio::time::timeout(EXCHANGE_TIME_MAX, all).await }).ok()?;
        let seen = sending.into_iter().filter_map(|one| match one {
            Sending::Done(seen) => Some(*seen),
            Sending::Running(_) => None,
        });
        Some(seen.collect())
    }
}

/// A request that is ready to go.
type Made = (Client, http::request::Parts, Bytes);

/// One of the exchanges that are sent at once.
enum Sending<'s> {
    Running(Pin<Box<dyn Future<Output = Seen> + 's>>),
    Done(Box<Seen>),
}

impl Sending<'_> {
    fn is_done(&mut self, cx: &mut Context<'_>) -> bool {
        if let Sending::Running(running) = self
            && let Poll::Ready(seen) = running.as_mut().poll(cx)
        {
            *self = Sending::Done(Box::new(seen));
        }
        matches!(self, Sending::Done(_))
    }
}

impl Stage<'_> {
    fn bench<'b>(&'b self, answer: Option<&'b Seen>) -> Bench<'b> {
        Bench {
            captured: &self.captured,
            order: &self.case.captured,
            tokens: &self.tokens,
            answer,
            now: self.worker.clock.wall(),
            random: &self.random,
        }
    }

    fn client(&self, client: &TestClient) -> Client {
        Client {
            listener: self.usual.listener.clone(),
            scheme: if client.tls.is_some() { "https" } else { "http" },
            ip: client.ip,
            peer_ip: client.peer,
            port: 0,
            is_proxy: false,
            tls: client.tls.clone(),
        }
    }
}

/// Sends one request through the engine as a connection does, to the last byte of the answer.
async fn send(
    worker: &Rc<Worker>,
    client: Client,
    parts: http::request::Parts,
    body: Bytes,
    exchange: &TestExchange,
    case: &Case,
) -> Seen {
    let refused = check_head(&parts, &worker.shared.limits).err();
    let to_head = parts.method == http::Method::HEAD;
    let body = if body.is_empty() { Body::Empty } else { Body::Buffered(body) };
    let mut x = serve::exchange(worker.clone(), client, parts, body, refused);
    let trace = Rc::default();
    x.trace = Some(Rc::clone(&trace));
    let x = serve::answer(x).await;
    let (snapshot, service) = (x.snapshot.clone(), x.service);
    let fault = x.fault.as_ref().map(|fault| (fault.code.to_string(), fault.detail.clone()));
    let ended_by = if fault.is_some() { "fault" } else { x.ended_by.word() };
    let verdict = match (&x.fault, x.ended_by) {
        (Some(fault), _) => fault.kind.word(),
        (None, EndedBy::End | EndedBy::Stop) => "passed",
        // What ends the pipeline behind a tested assertion that has passed is the runner's.
        (None, _) if case.inputs.is_some() && has_passed(&x, &trace.borrow().lines, &case.suite) => "passed",
        (None, _) => "ended",
    };
    let names = exchange.expect.variables.iter().map(|(name, _)| name.name.clone());
    let outputs = exchange.expect.outputs.iter().map(|(name, _)| format!("{}.{}", case.suite, name.name));
    let variables = names.chain(outputs).map(|name| variable(&x, &name)).collect();
    let (parts, body) = serve::leave(x).into_parts();
    let whole = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = if to_head { Bytes::new() } else { whole };
    let mut seen = Seen::new(snapshot, Answered { status: parts.status.as_u16(), headers: parts.headers, body });
    (seen.service, seen.fault, seen.variables) = (service, fault, variables);
    (seen.ended_by, seen.verdict) = (ended_by, verdict);
    seen.trace = trace.take().lines;
    if let Records::Kept(kept) = &worker.records {
        seen.record = kept.borrow_mut().pop(); // nothing has waited since the exchange was recorded
    }
    seen
}

fn has_passed(x: &Exchange, trace: &[Traced], assertion: &str) -> bool {
    let steps = &x.compiled(&x.snapshot).steps;
    trace
        .iter()
        .filter(|traced| traced.verdict == TracedVerdict::Passed)
        .any(|traced| steps.get(usize::from(traced.step)).is_some_and(|step| &*step.assertion == assertion))
}

fn capture(stage: &Stage<'_>, exchange: &TestExchange, seen: &Seen) -> Result<Vec<(String, Value)>, Box<Problem>> {
    let bench = stage.bench(Some(seen));
    let mut captured = Vec::new();
    for (name, text) in &exchange.capture {
        let value = match text.value(&bench) {
            Ok(Value::Absent) => Err("absent".to_owned()),
            other => other,
        };
        let value = value
            .map_err(|got| Box::new(Problem::of_case(text.span, &format!("a value for `captured.{name}`"), got)))?;
        captured.push((name.clone(), value));
    }
    Ok(captured)
}

/// What keeps a set from loading, in lines.
fn messages(parsed: &Parsed, diags: &Diagnostics) -> String {
    let errors = diags.iter().filter(|one| one.severity == Severity::Error);
    let lines = errors.map(|one| {
        let place = parsed.sources.place(one.span.unwrap_or(Span::NOWHERE));
        format!("{}:{}: {} ({})", place.file, place.line, one.message, one.code)
    });
    lines.collect::<Vec<_>>().join("\n")
}
