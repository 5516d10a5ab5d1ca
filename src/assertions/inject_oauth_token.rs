//! `inject_oauth_token`: puts a stored token into the outgoing call, fresh, without the caller ever seeing it.
//!
//! RFC 6749 §6, RFC 6750 §2.1 and §3.1. The token is sealed to the session's origins: it is written when the call is
//! sent, to no other place, and no variable holds it. Where the upstream refuses it, it is renewed once and the call
//! replayed once. What it does not do: it asks nobody for a grant.

mod example;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{SET_COOKIE, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::Body;
use crate::broker::Session;
use crate::broker::state::{Failure, Live, Look, Moment, State};
use crate::compile::flow::Happened;
use crate::compile::inject::{Inject, Target};
use crate::compile::text::Test;
use crate::compile::{Assertion, Category, Compile, Compiled, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Condition, Flow, StepId, Verdict, Waits};
use crate::engine::read::Slot;
use crate::engine::run::hold;
use crate::engine::seal::{Renewing, Seal, Unopened};
use crate::engine::value::{Facts, Origin as ValueOrigin, Type, Value};
use crate::fault::Fault;
use crate::source::{Name, Node, Spanned};
use crate::upstream::{Answer, Origin};

/// Largest body that is held to be sent again, in bytes.
const REPLAY_BODY_MAX: u64 = 1024 * 1024;
/// What a refresh may take beside its call: the lease, and the disk.
const REFRESH_BESIDE: Duration = Duration::from_secs(15);

const NAME: Output = Output { name: "oauth_session.name", ty: Type::Text, absent: false, doc: "Name of the session." };
const ACCOUNT: Output = Output {
    name: "oauth_session.account",
    ty: Type::Text,
    absent: false,
    doc: "Whose grant it is, as its file says; the session's name without it.",
};
const INSTANCE_URL: Output = Output {
    name: "oauth_session.instance_url",
    ty: Type::Text,
    absent: false,
    doc: "Where the account lives, for a `route`. Only with a `profile` that has it.",
};
const EXPIRES_AT: Output = Output {
    name: "oauth_session.expires_at",
    ty: Type::Time,
    absent: true,
    doc: "When the token ends, where that is known.",
};

pub const KIND: Kind = Kind {
    main: Some("session"),
    bodies: "held up to 1MiB where `replay` is true; larger ones stream and are not replayed",
    sets: &[NAME, ACCOUNT, INSTANCE_URL, EXPIRES_AT],
    faults: &[
        FaultDoc {
            code: "inject_oauth_token.no_session",
            status: 503,
            doc: "Nobody has connected the session: its file is not there, or names no instance.",
        },
        FaultDoc {
            code: "inject_oauth_token.refresh_failed",
            status: 503,
            doc: "The token has ended and the provider gave no other one. It is tried again; the record has the cause.",
        },
        FaultDoc {
            code: "inject_oauth_token.exhausted",
            status: 503,
            doc: "The grant is dead: a person has to connect the session anew and put its tokens into the file.",
        },
        FaultDoc {
            code: "inject_oauth_token.origin_refused",
            status: 500,
            doc: "The call would go to an origin that is not among the session's `allowed_origins`. Nothing was sent.",
        },
        FaultDoc { code: "inject_oauth_token.rejected", status: 502, doc: "The upstream refused a fresh token too." },
        FaultDoc {
            code: "inject_oauth_token.not_replayable",
            status: 503,
            doc: "The upstream refused the token, which was renewed; the request's body was too large to be held, or `replay` is false.",
        },
    ],
    examples: example::EXAMPLES,
    ..Kind::of::<InjectOauthToken>(
        "inject_oauth_token",
        "Puts a stored token into the outgoing call, without the caller ever seeing it.",
        Category::Tokens,
    )
};

/// Parameters of `inject_oauth_token`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InjectOauthToken {
    /// Name of an `oauth_session`.
    session: Name,
    /// Where the token is put; `{ header: authorization, scheme: Bearer }` without it.
    #[serde(default)]
    inject: Option<Spanned<Inject>>,
    /// Sends the call again, once, where the upstream refuses the token.
    #[serde(default = "yes")]
    replay: bool,
    /// Lets `Set-Cookie` and `WWW-Authenticate` of the upstream through.
    #[serde(default)]
    keep_response_auth: bool,
    /// Seals the token to the next `call_http` instead of the routes that follow.
    #[serde(default)]
    for_call: bool,
}

fn yes() -> bool {
    true
}

impl Assertion for InjectOauthToken {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let session = cx.resource("oauth_session", &self.session, |all| &all.sessions);
        let target = match &self.inject {
            Some(inject) => cx.inject(inject),
            None => Some(Target::bearer()),
        };
        let (session, target) = (session?, target?);
        // The client's own field of that name never goes where the token belongs.
        if !self.for_call {
            cx.owned_headers.extend(target.header().cloned());
        }
        let expired = match &session.settings.expired_when {
            Some(text) => Some(Test(expired_when(&self.session, text, cx)?)),
            None => None,
        };
        let renamed = step.renamed();
        let mut out = |output: &Output| {
            let facts = Facts { origin: ValueOrigin::Upstream, absent: output.absent, ..Facts::policy(output.ty) };
            cx.out_with(output.name, renamed, facts)
        };
        let slots = Slots {
            name: out(&NAME),
            account: out(&ACCOUNT),
            instance_url: session.settings.profile.has_instance_url().then(|| out(&INSTANCE_URL)),
            expires_at: out(&EXPIRES_AT),
        };
        if self.replay && !self.for_call {
            cx.holds_to_replay.get_or_insert(cx.current());
        }
        let sealed = &mut cx.flow.sealed;
        let list = if self.for_call { &mut sealed.calls } else { &mut sealed.routes };
        list.push(session.clone());
        let injected = Injected {
            session,
            target,
            expired,
            replay: self.replay,
            keep_response_auth: self.keep_response_auth,
            id: cx.current(),
        };
        Compiled::waits(InjectStep { injected: Arc::new(injected), for_call: self.for_call, slots })
    }
}

/// The session's condition, with what there is in this service.
fn expired_when(session: &Name, text: &str, cx: &mut Compile<'_>) -> Option<crate::expr::Compiled> {
    let routed = std::mem::replace(&mut cx.flow.routed, Happened::Always); // it is asked when there is an answer
    let compiled = cx.answer_condition(&Node::text(session.span, text));
    cx.flow.routed = routed;
    if compiled.is_none() {
        let message = format!("`expired_when: {text}` of `{}` cannot be asked here", session.name);
        let help = "ask for `answer.status` and `answer.headers`";
        return cx.refuse("policy.bad_session", session.span, message, help);
    }
    compiled
}

#[derive(Debug)]
struct Slots {
    name: Slot,
    account: Slot,
    instance_url: Option<Slot>,
    expires_at: Slot,
}

struct InjectStep {
    injected: Arc<Injected>,
    for_call: bool,
    slots: Slots,
}

/// What is sealed to the call.
struct Injected {
    session: Arc<Session>,
    target: Target,
    expired: Option<Test>,
    replay: bool,
    keep_response_auth: bool,
    id: StepId,
}

impl Waits for InjectStep {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let holds = self.injected.replay && !self.for_call && matches!(x.request.body, Body::Stream(_));
        if !holds {
            let (state, now) = self.injected.state(x);
            match self.injected.session.look(&state, now) {
                Look::Good(live) => return Flow::Now(self.seal(x, &live).into()),
                Look::Failed { why, retry_after_s } => {
                    return Flow::Now(Verdict::Fault(self.injected.failed(why, retry_after_s)));
                }
                Look::Wait(_) | Look::Fresh => {}
            }
        }
        Flow::Later(Box::pin(async move {
            if holds && let Err(fault) = hold(x, REPLAY_BODY_MAX).await {
                return Verdict::Fault(fault);
            }
            match self.injected.live(x).await {
                Ok(live) => self.seal(x, &live).into(),
                Err(fault) => Verdict::Fault(fault),
            }
        }))
    }
}

impl InjectStep {
    fn seal(&self, x: &mut Exchange, live: &Live) -> Result<(), Box<Fault>> {
        let name = self.injected.session.settings.name.clone();
        let (grant, slots) = (&live.grant, &self.slots);
        if let Some(slot) = slots.instance_url {
            let Some(url) = &grant.instance_url else {
                let why = Failure::NoSession("neither the file nor an answer names the `instance_url`".to_owned());
                return Err(self.injected.failed(why, 1));
            };
            x.set(slot, Value::Text(url.clone()));
        }
        x.set(slots.account, Value::Text(grant.account.clone().unwrap_or_else(|| name.clone())));
        x.set(slots.name, Value::Text(name));
        let expires_at = grant.expires_at_s.and_then(|at_s| Timestamp::from_second(at_s).ok());
        x.set(slots.expires_at, expires_at.map_or(Value::Absent, Value::Time));
        x.seal(self.injected.clone(), self.for_call);
        Ok(())
    }
}

impl Injected {
    fn state(&self, x: &Exchange) -> (Arc<State>, Moment) {
        let clock = &x.worker.clock;
        let now = Moment { unix_s: clock.wall().as_second(), mono_ms: clock.mono_ms() };
        (self.session.state(&x.worker.shared.played, now), now)
    }

    /// The token that serves, waiting for a refresh where there is none.
    async fn live(&self, x: &Exchange) -> Result<Arc<Live>, Box<Fault>> {
        let (state, now) = self.state(x);
        let before = state.current().map_or(0, |live| live.serial);
        let look = self.session.look(&state, now);
        self.settled(x, &state, look, before).await
    }

    /// What a look has come to; one token after `before` is enough, however short it lives.
    async fn settled(&self, x: &Exchange, state: &State, look: Look, before: u64) -> Result<Arc<Live>, Box<Fault>> {
        let mut ended = match look {
            Look::Good(live) => return Ok(live),
            Look::Failed { why, retry_after_s } => return Err(self.failed(why, retry_after_s)),
            Look::Fresh => return Err(self.fault(Unopened::Rejected)),
            Look::Wait(ended) => ended,
        };
        let timer = x.worker.wheel.timer();
        timer.set(self.session.settings.timeout + REFRESH_BESIDE);
        tokio::select! {
            _ = ended.changed() => {}
            () = timer.expired() => {}
        }
        let (_, now) = self.state(x);
        match self.session.look(state, now) {
            Look::Good(live) => Ok(live),
            Look::Failed { why, retry_after_s } => Err(self.failed(why, retry_after_s)),
            Look::Fresh => Err(self.fault(Unopened::Rejected)),
            Look::Wait(_) => match (state.current().filter(|live| live.serial > before), state.failed(now)) {
                (Some(live), _) => Ok(live),
                (None, Look::Failed { why, retry_after_s }) => Err(self.failed(why, retry_after_s)),
                (None, _) => Err(self.failed(Failure::Refresh(String::new()), 1)),
            },
        }
    }

    fn failed(&self, why: Failure, retry_after_s: u64) -> Box<Fault> {
        let (code, detail, comes_back) = match why {
            Failure::NoSession(why) => ("inject_oauth_token.no_session", why, false),
            Failure::Exhausted(why) => ("inject_oauth_token.exhausted", why, false),
            Failure::Refresh(why) => ("inject_oauth_token.refresh_failed", why, true),
        };
        let detail = format!("session `{}`: {detail}", self.session.settings.name);
        let mut fault = Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        fault.retry_after_s = comes_back.then_some(retry_after_s);
        fault.step = Some(self.id);
        fault
    }
}

impl Seal for Injected {
    fn admits(&self, origin: &Origin) -> bool {
        let mut allowed = self.session.settings.allowed_origins.iter();
        allowed.any(|allowed| allowed.admits(origin.https, &origin.host.to_string(), origin.port))
    }

    fn open(&self, x: &Exchange, headers: &mut HeaderMap, target: &mut PathAndQuery) -> Result<u64, Box<Fault>> {
        let (state, _) = self.state(x);
        let found = state.current().and_then(|live| {
            let token = live.grant.access_token.as_ref()?.expose();
            self.target.write(token, headers, target).then_some(live.serial)
        });
        let Some(serial) = found else {
            let why = Failure::NoSession("its token is gone, or cannot stand where it is put".to_owned());
            return Err(self.failed(why, 1));
        };
        Ok(serial)
    }

    fn is_refused(&self, x: &mut Exchange, answer: &Answer) -> Result<bool, Box<Fault>> {
        // A 401 is never shown to the caller as its own, whatever else the session counts.
        match &self.expired {
            _ if answer.status == StatusCode::UNAUTHORIZED => Ok(true),
            None => Ok(false),
            Some(expired) => x.holds_of(answer, expired as &dyn Condition),
        }
    }

    fn renew<'a>(&'a self, x: &'a Exchange, refused: u64) -> Renewing<'a> {
        Box::pin(async move {
            let (state, now) = self.state(x);
            let look = self.session.renew(&state, refused, now);
            self.settled(x, &state, look, refused).await.map(|_| ())
        })
    }

    fn replays(&self) -> bool {
        self.replay
    }

    fn clean(&self, headers: &mut HeaderMap) {
        if !self.keep_response_auth {
            headers.remove(SET_COOKIE);
            headers.remove(WWW_AUTHENTICATE);
        }
    }

    fn fault(&self, why: Unopened) -> Box<Fault> {
        let name = &self.session.settings.name;
        let (status, code, detail) = match why {
            Unopened::OriginRefused(origin) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "inject_oauth_token.origin_refused",
                format!("{origin} is not among the allowed_origins of session `{name}`"),
            ),
            Unopened::NotReplayable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "inject_oauth_token.not_replayable",
                format!("the upstream refused the token of `{name}`, which was renewed; the call is not sent again"),
            ),
            Unopened::Rejected => (
                StatusCode::BAD_GATEWAY,
                "inject_oauth_token.rejected",
                format!("the upstream refused a fresh token of `{name}` too"),
            ),
        };
        let mut fault = Fault::broken(status, code, detail);
        fault.retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        fault.step = Some(self.id);
        fault
    }
}
