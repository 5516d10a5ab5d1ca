//! Traces of the children of `parallel`: each has one of its own, and they are put behind each other in the order in
//! which the policy lists the children. When each step began and ended shows what ran at once.

use std::cell::RefCell;
use std::rc::Rc;

use crate::engine::exchange::Exchange;
use crate::engine::trace::{Live, STEPS_MAX, Trace, Traces};

impl Traces {
    /// The trace of a child that begins with the exchange as it is.
    pub(in crate::engine) fn fork(&self, x: &Exchange) -> Trace {
        let live = self.live.as_ref().map(|live| {
            let presented = live.presented.clone();
            Box::new(Live { presented, ..Live::default() })
        });
        let (vars, identities) = (x.vars.clone(), x.identities.to_vec());
        Rc::new(RefCell::new(Traces { lines: Vec::new(), vars, identities, live }))
    }

    /// Takes over the lines of a child.
    pub(in crate::engine) fn join(&mut self, mut child: Traces) {
        if let (Some(live), Some(theirs)) = (&mut self.live, child.live) {
            live.read_bytes = live.read_bytes.saturating_add(theirs.read_bytes);
            let room = STEPS_MAX.saturating_sub(self.lines.len());
            live.cut |= theirs.cut || child.lines.len() > room;
            child.lines.truncate(room);
        }
        self.lines.append(&mut child.lines);
    }
}
