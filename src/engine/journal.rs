//! The journal: what was there before steps of an open frame changed it.
//!
//! It is written by the setters of the exchange alone, and only while a frame is open; of each thing a frame keeps
//! the first old value. Going back restores variables, identities and messages. What has happened outside stays:
//! counters, records, requests that were sent, and bytes of a body that were read.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use smallvec::SmallVec;

use crate::body::Body;
use crate::engine::exchange::{AnswerEdit, Exchange, Original, Withheld};
use crate::engine::message::Response;
use crate::engine::program::StepId;
use crate::engine::read::{Side, Slot};
use crate::engine::seal::Seals;
use crate::engine::state::State;
use crate::engine::value::Value;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::path::CanonicalPath;

/// What a request's head was, its body apart.
pub struct RequestHead {
    pub method: Method,
    pub path: CanonicalPath,
    pub changed_query: Option<String>,
    pub original: Option<Box<Original>>,
}

/// The old value of one thing.
pub enum Undo {
    Var(Slot, Value),
    Identity(Slot, Option<Arc<Identity>>),
    /// Path, query and method.
    Head(Box<RequestHead>),
    Headers(Side, HeaderMap),
    Body(Side, Body),
    /// The limit of a streamed body, in bytes.
    Limit(Side, (u64, bool)),
    Response(Option<Box<Response>>),
    Withheld(SmallVec<[Withheld; 2]>),
    HeadersSet(SmallVec<[HeaderName; 4]>),
    AnswerEdits(Vec<AnswerEdit>),
    Seals(Seals),
}

/// Which thing an old value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Var(Slot),
    Identity(Slot),
    Head,
    Headers(Side),
    Body(Side),
    Limit(Side),
    Response,
    Withheld,
    HeadersSet,
    AnswerEdits,
    Seals,
}

impl Undo {
    fn thing(&self) -> Thing {
        match self {
            Undo::Var(slot, _) => Thing::Var(*slot),
            Undo::Identity(slot, _) => Thing::Identity(*slot),
            Undo::Head(_) => Thing::Head,
            Undo::Headers(side, _) => Thing::Headers(*side),
            Undo::Body(side, _) => Thing::Body(*side),
            Undo::Limit(side, _) => Thing::Limit(*side),
            Undo::Response(_) => Thing::Response,
            Undo::Withheld(_) => Thing::Withheld,
            Undo::HeadersSet(_) => Thing::HeadersSet,
            Undo::AnswerEdits(_) => Thing::AnswerEdits,
            Undo::Seals(_) => Thing::Seals,
        }
    }

    fn apply(self, state: &mut State) {
        match self {
            Undo::Var(slot, value) => {
                if let Some(variable) = state.vars.get_mut(usize::from(slot.0)) {
                    *variable = value;
                }
            }
            Undo::Identity(slot, identity) => {
                if let Some(place) = state.identities.get_mut(usize::from(slot.0)) {
                    *place = identity;
                }
            }
            Undo::Head(head) => {
                let RequestHead { method, path, changed_query, original } = *head;
                (state.request.method, state.request.path) = (method, path);
                (state.request.changed_query, state.original) = (changed_query, original);
            }
            Undo::Headers(Side::Request, headers) => {
                state.request.headers = headers;
                state.request.forget_parsed(); // whether a body is read at all hangs on its content coding
            }
            Undo::Headers(Side::Response, headers) => {
                if let Some(response) = &mut state.response {
                    response.headers = headers;
                    response.forget_parsed();
                }
            }
            Undo::Body(Side::Request, body) => state.request.set_body(body),
            Undo::Body(Side::Response, body) => {
                if let Some(response) = &mut state.response {
                    response.set_body(body);
                }
            }
            Undo::Limit(side, limit) => {
                if let Some(Body::Stream(inbound)) = state.body_mut(side) {
                    inbound.restore_limit(limit);
                }
            }
            Undo::Response(response) => state.response = response.map(|response| *response),
            Undo::Withheld(withheld) => state.withheld = withheld,
            Undo::HeadersSet(names) => state.headers_set = names,
            Undo::AnswerEdits(edits) => state.answer_edits = edits,
            Undo::Seals(seals) => state.seals = seals,
        }
    }
}

/// A frame that the walk is inside of.
pub struct OpenFrame {
    /// Index of its `Open` among the operations of the program.
    pub opened_at: usize,
    /// Old values from here on are its own.
    mark: usize,
    /// Loops and caught faults that were there before it.
    pub loops: usize,
    pub caught: usize,
    /// Faults of the children before this one.
    pub faults: Vec<Fault>,
    /// The request's body could still be read.
    had_body: bool,
    /// The shadowed step that it is of.
    shadow: Option<StepId>,
    /// Limits that were watched before it.
    watched: usize,
}

/// A limit on a streamed body that is shadowed: it refuses nothing, and what came is compared at the end.
pub struct Watched {
    pub step: StepId,
    pub side: Side,
    pub bytes: u64,
}

/// All open frames and what was before them.
#[derive(Default)]
pub struct Journal {
    undos: Vec<Undo>,
    frames: Vec<OpenFrame>,
    /// A child gave the request's body away and was undone.
    pub body_spent: bool,
    pub watched: Vec<Watched>,
}

impl Journal {
    /// Whether the old value of a thing has to be kept.
    pub fn wants(&self, thing: Thing) -> bool {
        let Some(frame) = self.frames.last() else { return false };
        !self.undos.iter().skip(frame.mark).any(|undo| undo.thing() == thing)
    }

    /// What was changed while a frame was open.
    pub(super) fn changed(&self) -> impl Iterator<Item = Thing> {
        self.undos.iter().map(Undo::thing)
    }

    /// Keeps an old value, if it is the first of the open frame.
    #[inline]
    pub fn keep(&mut self, undo: Undo) {
        if !self.frames.is_empty() && self.wants(undo.thing()) {
            self.undos.push(undo);
        }
    }

    /// The innermost shadowed step around.
    pub fn shadow(&self) -> Option<StepId> {
        self.frames.iter().rev().find_map(|frame| frame.shadow)
    }
}

impl Exchange {
    /// Opens a frame: from now on old values are kept.
    pub(super) fn open_frame(&mut self, opened_at: usize, shadow: Option<StepId>, faults: Vec<Fault>) {
        let frame = OpenFrame {
            opened_at,
            mark: self.journal.undos.len(),
            loops: self.walk.loops.len(),
            caught: self.walk.caught.len(),
            faults,
            had_body: !matches!(self.request.body, Body::Gone),
            shadow,
            watched: self.journal.watched.len(),
        };
        self.journal.frames.push(frame);
    }

    /// Closes the innermost frame and keeps what was changed in it. An outer frame takes over what it does not
    /// know yet.
    pub(super) fn keep_frame(&mut self) -> Option<OpenFrame> {
        let frame = self.journal.frames.pop()?;
        match self.journal.frames.last() {
            None => self.journal.undos.clear(),
            Some(outer) => {
                let inner = self.journal.undos.split_off(frame.mark);
                for undo in inner {
                    let thing = undo.thing();
                    if !self.journal.undos.iter().skip(outer.mark).any(|known| known.thing() == thing) {
                        self.journal.undos.push(undo);
                    }
                }
            }
        }
        Some(frame)
    }

    /// Closes the innermost frame and takes back what was changed in it.
    pub(super) fn undo_frame(&mut self) -> Option<OpenFrame> {
        let frame = self.journal.frames.pop()?;
        while self.journal.undos.len() > frame.mark {
            if let Some(undo) = self.journal.undos.pop() {
                undo.apply(&mut self.state);
            }
        }
        self.journal.watched.truncate(frame.watched);
        self.walk.loops.truncate(frame.loops);
        self.walk.caught.truncate(frame.caught);
        self.journal.body_spent |= frame.had_body && matches!(self.request.body, Body::Gone);
        self.forget_undone();
        Some(frame)
    }

    /// The pipeline has its answer: all changes stay.
    pub(super) fn keep_all(&mut self) {
        self.journal.frames.clear();
        self.journal.undos.clear();
        self.walk.end();
    }

    /// The pipeline was given up in the middle: what open frames have changed is taken back.
    pub(super) fn undo_all(&mut self) {
        while self.undo_frame().is_some() {}
        self.walk.end();
    }
}
