//! What steps may change of an exchange, and the only ways to change it.
//!
//! Everybody reads these fields through the exchange (`x.request.headers`) at no cost. Nobody outside the engine
//! can write them but through the setters below: there is no mutable way to them.

use std::ops::Deref;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, StatusCode};
use smallvec::SmallVec;

use crate::body::{Body, BodyFault};
use crate::engine::exchange::{AnswerEdit, Exchange, Original, Withheld};
use crate::engine::journal::{RequestHead, Thing, Undo, Watched};
use crate::engine::message::{Request, Response};
use crate::engine::read::{Side, Slot};
use crate::engine::run::body_fault;
use crate::engine::seal::{Seal, Seals};
use crate::engine::value::{Text, Value};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::path::CanonicalPath;

/// What steps may change.
pub struct State {
    pub request: Request,
    pub response: Option<Response>,
    /// Parameters of the match rule's path, decoded.
    pub params: SmallVec<[Text; 4]>,
    pub vars: Vec<Value>,
    pub identities: SmallVec<[Option<Arc<Identity>>; 1]>,
    pub original: Option<Box<Original>>,
    pub withheld: SmallVec<[Withheld; 2]>,
    /// Request fields that steps have set so far.
    pub headers_set: SmallVec<[HeaderName; 4]>,
    pub answer_edits: Vec<AnswerEdit>,
    pub seals: Seals,
}

impl State {
    /// What a request begins with.
    pub(super) fn new(request: Request) -> State {
        State {
            request,
            response: None,
            params: SmallVec::new(),
            vars: Vec::new(),
            identities: SmallVec::new(),
            original: None,
            withheld: SmallVec::new(),
            headers_set: SmallVec::new(),
            answer_edits: Vec::new(),
            seals: Seals::default(),
        }
    }

    /// The body of a message that is there.
    pub(super) fn body_mut(&mut self, side: Side) -> Option<&mut Body> {
        match side {
            Side::Request => Some(&mut self.request.body),
            Side::Response => self.response.as_mut().map(|response| &mut response.body),
        }
    }
}

impl Deref for Exchange {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Exchange {
    /// Sets a variable.
    pub fn set(&mut self, slot: Slot, value: Value) {
        if let Some(variable) = self.state.vars.get_mut(usize::from(slot.0)) {
            let old = std::mem::replace(variable, value);
            self.journal.keep(Undo::Var(slot, old));
        }
    }

    /// A variable.
    pub fn var(&self, slot: Slot) -> &Value {
        self.vars.get(usize::from(slot.0)).unwrap_or(&Value::Absent)
    }

    /// Says who the caller is.
    pub fn identify(&mut self, slot: Slot, identity: Arc<Identity>) {
        if let Some(place) = self.state.identities.get_mut(usize::from(slot.0)) {
            let old = place.replace(identity);
            self.journal.keep(Undo::Identity(slot, old));
        }
    }

    /// Who the caller is.
    pub fn identity(&self, slot: Slot) -> Option<&Arc<Identity>> {
        self.identities.get(usize::from(slot.0)).and_then(Option::as_ref)
    }

    /// Changes the path, query and method that go upstream. The first change keeps what the client asked.
    pub fn rewrite(&mut self, path: Option<CanonicalPath>, query: Option<String>, method: Option<Method>) {
        if self.journal.wants(Thing::Head) {
            let request = &self.state.request;
            let head = RequestHead {
                method: request.method.clone(),
                path: request.path.clone(),
                changed_query: request.changed_query.clone(),
                original: self.state.original.clone(),
            };
            self.journal.keep(Undo::Head(Box::new(head)));
        }
        if self.original.is_none() {
            self.state.original = Some(Box::new(Original {
                path: self.request.path.as_str().to_owned(),
                query: self.request.query().map(str::to_owned),
                method: self.request.method.clone(),
            }));
        }
        let request = &mut self.state.request;
        if let Some(path) = path {
            request.path = path;
        }
        if let Some(query) = query {
            request.changed_query = Some(query);
        }
        if let Some(method) = method {
            request.method = method;
        }
    }

    /// Notes that `route` must not forward a credential.
    pub fn withhold(&mut self, credential: Withheld) {
        if !self.withheld.contains(&credential) {
            self.keep_withheld();
            self.state.withheld.push(credential);
        }
    }

    /// Fields of a message, to be changed; `None` where there is no such message.
    pub fn headers_mut(&mut self, side: Side) -> Option<&mut HeaderMap> {
        let headers = match side {
            Side::Request => &mut self.state.request.headers,
            Side::Response => &mut self.state.response.as_mut()?.headers,
        };
        if self.journal.wants(Thing::Headers(side)) {
            self.journal.keep(Undo::Headers(side, headers.clone()));
        }
        Some(headers)
    }

    /// Notes that a request field is the policy's own: it may stand for one that the client cannot send, and for
    /// a credential that is not forwarded.
    pub fn own_header(&mut self, name: &HeaderName) {
        if !self.headers_set.contains(name) {
            self.keep_headers_set();
            self.state.headers_set.push(name.clone());
        }
        self.keep_withheld();
        self.state.withheld.retain(|withheld| !matches!(withheld, Withheld::Header(read) if read == name));
    }

    /// Forgets which request fields were the policy's own where they are gone: only a step may bring them back.
    pub fn disown_removed_headers(&mut self) {
        self.keep_headers_set();
        let State { request, headers_set, .. } = &mut self.state;
        headers_set.retain(|name| request.headers.contains_key(&*name));
    }

    /// Replaces the body of a message; nothing happens where there is no such message.
    pub fn set_body(&mut self, side: Side, body: Body) {
        let Some(place) = self.state.body_mut(side) else { return };
        let old = std::mem::take(place);
        self.journal.keep(Undo::Body(side, old));
        match (side, &mut self.state.response) {
            (Side::Request, _) => self.state.request.set_body(body),
            (Side::Response, Some(response)) => response.set_body(body),
            (Side::Response, None) => {}
        }
    }

    /// Gives the request's body to be sent: one that streams is gone afterwards.
    pub fn give_request_body(&mut self) -> Result<Body, Box<Fault>> {
        let given = self.state.request.body.give();
        given.map_err(|fault| self.body_fault(Side::Request, fault))
    }

    /// A body that could not be read. One that an alternative before this has sent away is not "gone" by a
    /// mistake of the policy: it was too large to be held.
    pub(super) fn body_fault(&self, side: Side, fault: BodyFault) -> Box<Fault> {
        if fault == BodyFault::Gone && side == Side::Request && self.journal.body_spent {
            let limit = self.worker.shared.limits.body_buffered;
            let detail = format!("an alternative before this one sent it, and more than {limit} bytes are not held");
            return Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "body.not_replayable", detail);
        }
        body_fault(side, fault)
    }

    /// Holds a streamed body to so many bytes; the limit is never widened. In a shadowed step it is only watched.
    pub fn tighten_body(&mut self, side: Side, bytes: u64) {
        if let Some(step) = self.journal.shadow() {
            self.journal.watched.push(Watched { step, side, bytes });
        } else if let Some(Body::Stream(inbound)) = self.state.body_mut(side) {
            self.journal.keep(Undo::Limit(side, inbound.limit()));
            inbound.restrict(bytes);
        }
    }

    /// Sets what will be answered.
    pub fn set_response(&mut self, response: Response) {
        let old = self.state.response.replace(response);
        if self.journal.wants(Thing::Response) {
            self.journal.keep(Undo::Response(old.map(Box::new)));
        }
    }

    /// Takes the response to make another of it, which the step has to set. For steps that end the pipeline:
    /// nothing brings it back.
    pub fn take_response(&mut self) -> Option<Response> {
        self.state.response.take()
    }

    /// Adds a change of whatever answer leaves.
    pub fn edit_answer(&mut self, edit: AnswerEdit) {
        self.keep_answer_edits();
        self.state.answer_edits.push(edit);
    }

    /// Takes back changes of the answer that do not hold any more.
    pub fn retain_answer_edits(&mut self, keep: impl FnMut(&AnswerEdit) -> bool) {
        self.keep_answer_edits();
        self.state.answer_edits.retain(keep);
    }

    /// Seals a credential to what is sent next.
    pub fn seal(&mut self, seal: Arc<dyn Seal>, for_call: bool) {
        let mut seals = self.state.seals.clone();
        let list = if for_call { &mut seals.calls } else { &mut seals.routes };
        list.push(seal);
        self.set_seals(seals);
    }

    /// Takes the credentials that are sealed to the next call beside the request.
    pub fn take_call_seals(&mut self) -> Vec<Arc<dyn Seal>> {
        if self.seals.calls.is_empty() {
            return Vec::new();
        }
        let mut seals = self.state.seals.clone();
        let taken = std::mem::take(&mut seals.calls);
        self.set_seals(seals);
        taken
    }

    pub(super) fn set_seals(&mut self, seals: Seals) {
        let old = std::mem::replace(&mut self.state.seals, seals);
        self.journal.keep(Undo::Seals(old));
    }

    fn keep_withheld(&mut self) {
        if self.journal.wants(Thing::Withheld) {
            self.journal.keep(Undo::Withheld(self.state.withheld.clone()));
        }
    }

    fn keep_headers_set(&mut self) {
        if self.journal.wants(Thing::HeadersSet) {
            self.journal.keep(Undo::HeadersSet(self.state.headers_set.clone()));
        }
    }

    fn keep_answer_edits(&mut self) {
        if self.journal.wants(Thing::AnswerEdits) {
            self.journal.keep(Undo::AnswerEdits(self.state.answer_edits.clone()));
        }
    }
}
