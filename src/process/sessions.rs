//! Renews stored tokens, in the background and with the upstream client.
//!
//! RFC 6749 §6. One thread with a runtime of its own; each session has a task there that lives as long as somebody needs
//! it. Renewing holds the file's lease, reads the file first, and writes the new tokens before they serve. Redirects are
//! not followed, answers are bounded in time and size. Nothing here prints a token.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::mpsc;

use super::keys::split;
use crate::audit::metrics::Metrics;
use crate::body::{Body, BodyLimits};
use crate::broker::file::{self, Lease};
use crate::broker::grant::{Grant, same};
use crate::broker::request::{Refused, TokenRequest, token_request};
use crate::broker::sessions::Sessions;
use crate::broker::state::{Failure, Moment, State};
use crate::broker::{GrantKind, Session};
use crate::clock::Clock;
use crate::clock::wheel::Wheel;
use crate::engine::worker::Shared;
use crate::upstream::{Addresses, Call, Destination, HostHeader, Pool, Retry, Timeouts};

/// Largest answer of a token endpoint, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Pause between two looks whether somebody else's lease is over.
const LEASE_PAUSE: Duration = Duration::from_millis(20);

const REFRESHES: &str = "gatewright_oauth_refreshes_total";
const REFRESHES_HELP: &str = "Refreshes of stored tokens, by what came of them.";
const UNUSABLE: &str = "gatewright_oauth_sessions_unusable";
const UNUSABLE_HELP: &str = "Stored sessions whose last refresh failed, or that nobody has connected.";

/// Renews what these sessions need, for ever.
pub(super) fn start(sessions: Arc<Sessions>, shared: Arc<Shared>, clock_origin: Instant) -> io::Result<()> {
    let (sender, told) = mpsc::unbounded_channel();
    sessions.renew_with(sender);
    std::thread::Builder::new().name("sessions".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(renew_all(told, sessions, shared, clock_origin)),
            Err(error) => tracing::error!(%error, "stored tokens cannot be renewed"),
        }
    })?;
    Ok(())
}

async fn renew_all(
    mut told: mpsc::UnboundedReceiver<Weak<Session>>,
    sessions: Arc<Sessions>,
    shared: Arc<Shared>,
    clock_origin: Instant,
) {
    let (wheel, clock) = (Wheel::new(), Clock::System(clock_origin));
    let pool = Rc::new(Pool::new(wheel.clone(), clock.clone()));
    tokio::task::spawn_local(async move { wheel.run().await });
    while let Some(session) = told.recv().await {
        let renewing =
            Renewing { pool: pool.clone(), clock: clock.clone(), shared: shared.clone(), sessions: sessions.clone() };
        tokio::task::spawn_local(async move { renewing.follow(session).await });
    }
}

struct Renewing {
    pool: Rc<Pool>,
    clock: Clock,
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
}

impl Renewing {
    fn now(&self) -> Moment {
        Moment { unix_s: self.clock.wall().as_second(), mono_ms: self.clock.mono_ms() }
    }

    /// Renews whenever it is due or wanted, until nobody needs the session.
    async fn follow(self, weak: Weak<Session>) {
        while let Some(session) = weak.upgrade() {
            let Some(state) = session.kept_state().cloned() else { return };
            let due_ms = state.due_in_ms(&session.settings, self.now());
            if due_ms > 0 {
                let wake = session.wake();
                drop((session, state));
                // What is left of the wait is seen at the next turn.
                let _ = tokio::time::timeout(Duration::from_millis(due_ms), wake.notified()).await;
                continue;
            }
            if !state.begin() {
                continue;
            }
            let outcome = self.refresh(&session, &state).await;
            tell(&session, &outcome, &self.shared.metrics);
            state.end(outcome, self.now());
            let standings = self.sessions.standings(self.clock.wall().as_second());
            let unusable = standings.iter().filter(|(_, session)| session.last_error.is_some()).count();
            self.shared.metrics.set(UNUSABLE, "gauge", UNUSABLE_HELP, unusable as u64);
        }
    }

    async fn refresh(&self, session: &Session, state: &State) -> Result<(), Failure> {
        let settings = &session.settings;
        let _lease = lease(&settings.file, settings.timeout).await?;
        if let Some(grant) = state.unwritten() {
            return self.write(state, grant).await;
        }
        let mut refused: Option<(Grant, String)> = None;
        loop {
            let Some(before) = self.before(session, state).await? else { return Ok(()) };
            match &refused {
                // Nobody has put another one there meanwhile: it is over.
                Some((tried, why)) if same(tried.refresh_token.as_ref(), before.refresh_token.as_ref()) => {
                    state.bury(before.refresh_token.as_ref());
                    return Err(Failure::Exhausted(why.clone()));
                }
                _ => {}
            }
            if state.is_dead(before.refresh_token.as_ref()) {
                let why = "the provider has refused this refresh token for good: connect the session anew";
                return Err(Failure::Exhausted(why.to_owned()));
            }
            let Some(request) = token_request(settings, &before) else {
                let why = format!("{} has no refresh_token, and its access token is not good", settings.file.display());
                return Err(Failure::Exhausted(why));
            };
            let asked = tokio::time::timeout(settings.timeout, self.ask(session, request)).await;
            let (status, answer) = asked
                .unwrap_or_else(|_| Err(format!("the token endpoint gave no answer within {:?}", settings.timeout)))
                .map_err(Failure::Refresh)?;
            match session.granted(&before, &answer, self.clock.wall().as_second()) {
                Ok(grant) if status.is_success() => {
                    state.hold(&grant);
                    return self.write(state, grant).await;
                }
                Ok(_) => return Err(Failure::Refresh(format!("the token endpoint answered {status}"))),
                Err(Refused::Dead(why)) => refused = Some((before, why)),
                Err(refused @ (Refused::Failed(_) | Refused::Unusable(..))) => {
                    let why = match refused {
                        Refused::Unusable(grant, why) if status.is_success() => {
                            state.hold(&grant);
                            self.write(state, *grant).await?;
                            why
                        }
                        Refused::Dead(why) | Refused::Failed(why) | Refused::Unusable(_, why) => why,
                    };
                    return Err(Failure::Refresh(format!("the token endpoint answered {status}: {why}")));
                }
            }
        }
    }

    /// The tokens to renew, as the file has them; nothing where it has others that serve already.
    async fn before(&self, session: &Session, state: &State) -> Result<Option<Grant>, Failure> {
        let settings = &session.settings;
        let path = settings.file.clone();
        let shown = path.display().to_string();
        let read = blocking(move || file::read(&path)).await.and_then(|read| read);
        match read.map_err(|why| Failure::Refresh(format!("{shown}: {why}")))? {
            Some(grant) if state.adopt(&grant, self.now()) => Ok(None),
            Some(grant) => Ok(Some(grant)),
            None if settings.grant == GrantKind::ClientCredentials => Ok(Some(Grant::default())),
            None => Err(Failure::NoSession(format!("{shown} is not there: nobody has connected the session"))),
        }
    }

    /// Writes tokens to the disk, and lets them serve. What cannot be written stays in memory for the next try.
    async fn write(&self, state: &State, grant: Grant) -> Result<(), Failure> {
        let (path, written) = (state.path.clone(), grant.clone());
        let outcome = blocking(move || file::write(&path, &written).map_err(|error| error.to_string())).await;
        outcome.and_then(|outcome| outcome).map_err(|why| {
            Failure::Refresh(format!("the new tokens cannot be written to {}: {why}", state.path.display()))
        })?;
        state.written(grant);
        Ok(())
    }

    async fn ask(&self, session: &Session, request: TokenRequest) -> Result<(StatusCode, Bytes), String> {
        let settings = &session.settings;
        let (mut origin, target) = split(&settings.token_url)?;
        if let Some(tls) = &settings.tls {
            origin = origin.over(tls.clone());
        }
        let mut headers = HeaderMap::new();
        // Some providers answer with a form unless they are asked for JSON.
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(credential) = &request.authorization {
            let mut value = HeaderValue::from_str(credential).map_err(|_| "the client cannot stand in a field")?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let time = settings.timeout;
        let call = Call {
            destination: Destination::Origin(Arc::new(origin)),
            method: Method::POST,
            target,
            headers,
            body: Body::Buffered(Bytes::copy_from_slice(request.body.as_bytes())),
            timeouts: Timeouts { connect: time, first_byte: time, idle: time, total: time },
            retry: Retry::default(),
            host: HostHeader::Upstream,
            client_host: None,
            answer_limits: BodyLimits { bytes: ANSWER_BYTES_MAX, idle: time, rate: 0 },
            answer_to_head: false,
            addresses: Addresses::Any,
            upgrade: None,
            key: None,
        };
        let mut answer = self.pool.send(call).await.map_err(|error| format!("the token endpoint: {error}"))?;
        let status = answer.status;
        let is_told = status.is_success() || (status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS);
        if !is_told {
            let more = if status.is_redirection() { ": redirects are not followed" } else { "" };
            return Err(format!("the token endpoint answered {status}{more}"));
        }
        let read = answer.body.buffer(ANSWER_BYTES_MAX).await;
        read.map_err(|fault| format!("the token endpoint's answer: {fault}"))?;
        Ok((status, answer.body.held().cloned().unwrap_or_default()))
    }
}

/// The right to renew, once nobody else has it; whoever has it for long has our patience for one refresh.
async fn lease(path: &Path, patience: Duration) -> Result<Lease, Failure> {
    let until = tokio::time::Instant::now() + patience;
    loop {
        let own = path.to_owned();
        let asked = blocking(move || file::lease(&own).map_err(|error| error.to_string())).await;
        match asked.and_then(|asked| asked) {
            Ok(Some(lease)) => return Ok(lease),
            Ok(None) if tokio::time::Instant::now() < until => tokio::time::sleep(LEASE_PAUSE).await,
            Ok(None) => return Err(Failure::Refresh(format!("another process holds {}.lock", path.display()))),
            Err(why) => return Err(Failure::Refresh(format!("{}.lock: {why}", path.display()))),
        }
    }
}

/// Does something that waits for a disk where nothing else has to wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}

fn tell(session: &Session, outcome: &Result<(), Failure>, metrics: &Metrics) {
    let name = &*session.settings.name;
    let result = match outcome {
        Ok(()) => {
            tracing::debug!(session = name, "stored token renewed");
            "ok"
        }
        Err(Failure::Refresh(why)) => {
            tracing::warn!(session = name, why, "a stored token cannot be renewed: it is tried again");
            "failed"
        }
        Err(Failure::Exhausted(why)) => {
            tracing::error!(session = name, why, "a stored session is exhausted: somebody has to connect it anew");
            "exhausted"
        }
        Err(Failure::NoSession(why)) => {
            tracing::warn!(session = name, why, "a session is not connected");
            "no_session"
        }
    };
    metrics.add_labelled(REFRESHES, REFRESHES_HELP, ("result", result), 1);
}
