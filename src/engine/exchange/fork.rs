//! Forks of an exchange: what each child of `parallel` works on.
//!
//! A fork sees the request as it is, but bodies that stream only by their size. What its steps set stays in it until
//! all children have passed: then the exchange takes it over through its setters, so that frames around it can take it
//! back. A fork has no record, no numbers and no `finally` of its own.

use smallvec::SmallVec;

use crate::audit::record::Record;
use crate::engine::exchange::Exchange;
use crate::engine::journal::{Journal, Thing};
use crate::engine::message::Response;
use crate::engine::parallel::unfit;
use crate::engine::state::State;
use crate::engine::walk::NOTED_MAX;
use crate::fault::Fault;

/// Stands for the operation that opened the frame around all steps of a fork: there is none.
const NO_OPERATION: usize = usize::MAX;

impl Exchange {
    /// The exchange for a child.
    pub(in crate::engine) fn fork(&self) -> Exchange {
        let mut vars = self.worker.vars(0);
        vars.extend_from_slice(&self.state.vars);
        let state = State {
            request: self.request.lend(),
            response: self.response.as_ref().map(Response::lend),
            params: self.params.clone(),
            vars,
            identities: self.identities.clone(),
            original: self.original.clone(),
            withheld: self.withheld.clone(),
            headers_set: self.headers_set.clone(),
            answer_edits: self.answer_edits.clone(),
            seals: self.seals.clone(),
        };
        let mut fork = Exchange {
            worker: self.worker.clone(),
            snapshot: self.snapshot.clone(),
            service: self.service,
            path_refused: self.path_refused,
            id: self.id.clone(),
            received: self.received,
            started_ns: self.started_ns,
            sending_since_ns: self.sending_since_ns,
            client: self.client.clone(),
            state,
            journal: Journal::default(),
            walk: self.walk.fork(),
            close_after: false,
            answer: self.answer,
            answer_headers: None,
            fault: self.fault.clone(),
            ended_by: self.ended_by,
            record: self.record.clone(),
            trace: None,
            span: self.span.clone(),
            failed_vars: Vec::new(),
            tunnel: None,
            tunnelled: 0,
            permits: Vec::new(),
            request_body: self.request_body.clone(),
            answer_ending: None,
            complete: false,
            is_fork: true,
        };
        fork.journal.body_spent = self.journal.body_spent;
        fork.trace = self.trace.as_ref().map(|trace| trace.borrow().fork(self));
        // While a frame is open the journal knows what was changed.
        fork.open_frame(NO_OPERATION, None, Vec::new());
        fork
    }

    /// Takes over what the steps of a child that has passed have set.
    pub(in crate::engine) fn join(&mut self, fork: &mut Exchange) -> Result<(), Box<Fault>> {
        let changed: SmallVec<[Thing; 8]> = fork.journal.changed().collect();
        for thing in changed {
            match thing {
                Thing::Var(slot) => {
                    let value = fork.state.vars.get_mut(usize::from(slot.0)).map(std::mem::take);
                    self.set(slot, value.unwrap_or_default());
                }
                Thing::Identity(slot) => {
                    if let Some(identity) = fork.identity(slot) {
                        self.identify(slot, identity.clone());
                    }
                }
                Thing::Withheld => fork.withheld.iter().for_each(|credential| self.withhold(credential.clone())),
                Thing::Seals => {
                    let mut seals = self.seals.clone();
                    seals.join(&fork.seals);
                    self.set_seals(seals);
                }
                Thing::Head
                | Thing::Headers(_)
                | Thing::Body(_)
                | Thing::Limit(_)
                | Thing::Response
                | Thing::HeadersSet
                | Thing::AnswerEdits => return Err(unfit("a child changed a message")),
            }
        }
        Ok(())
    }

    /// Takes over what stays whether or not the children have passed: what they noted for the record, their traces,
    /// and slots that they hold.
    pub(in crate::engine) fn keep_notes(&mut self, forks: &mut [Exchange]) {
        let notes: Vec<Record> =
            forks.iter_mut().map(|fork| added(&self.record, std::mem::take(&mut fork.record))).collect();
        for (fork, notes) in forks.iter_mut().zip(notes) {
            self.permits.append(&mut fork.permits);
            self.close_after |= fork.close_after;
            self.add_notes(notes);
            if let (Some(trace), Some(child)) = (&self.trace, fork.trace.take()) {
                trace.borrow_mut().join(child.take());
            }
        }
        // What has changed stands in the lines of the children, and is not what the step after them has set.
        self.forget_undone();
    }

    fn add_notes(&mut self, notes: Record) {
        let record = &mut self.record;
        record.level = record.level.max(notes.level);
        if let Some(message) = notes.message {
            record.message = Some(match record.message.take() {
                Some(before) => format!("{before}; {message}"),
                None => message,
            });
        }
        for (name, value) in notes.fields {
            record.fields.retain(|(known, _)| *known != name);
            record.fields.push((name, value));
        }
        record.caught.extend(notes.caught);
        record.caught.truncate(NOTED_MAX);
        record.would_deny.extend(notes.would_deny);
        record.would_deny.truncate(NOTED_MAX);
        record.would_break.extend(notes.would_break);
        record.would_break.truncate(NOTED_MAX);
    }
}

/// What steps have added to a record: it began with what `before` says.
fn added(before: &Record, mut after: Record) -> Record {
    let known = before.message.as_deref().unwrap_or_default();
    let message = after.message.as_deref().and_then(|message| message.strip_prefix(known));
    let message = message.map(|new| if known.is_empty() { new } else { new.trim_start_matches("; ") });
    let message = message.filter(|new| !new.is_empty()).map(str::to_owned);
    after.fields.retain(|field| !before.fields.contains(field));
    after.caught.drain(..before.caught.len().min(after.caught.len()));
    after.would_deny.drain(..before.would_deny.len().min(after.would_deny.len()));
    after.would_break.drain(..before.would_break.len().min(after.would_break.len()));
    Record { message, ..after }
}
