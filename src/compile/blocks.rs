//! Steps inside of steps: frames that undo, alternatives, loops, and what is known after them.

use std::collections::BTreeSet;

use crate::compile::Compile;
use crate::compile::flow::{Flow, Root};
use crate::compile::kind::{Category, Kind};
use crate::compile::steps::{STEPS_MAX, Step};
use crate::engine::program::{Exhausts, Frame, Op, StepId};
use crate::source::{Diagnostic, Diagnostics, Entry, Node, Span};

/// Passes over the body of a loop until its variables keep their types, at most.
const PASSES_MAX: usize = 12;

/// What a step stands in, as far as leaving it in the middle takes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    Frame,
    Loop,
    Catch,
    /// A child of `parallel`: nothing leaves it.
    Parallel,
}

/// A block with the state after it.
pub struct Block {
    pub ops: Vec<Op>,
    pub after: Flow,
}

/// The steps of a list that must not be empty; what is wrong with it is reported.
pub fn filled<'n>(cx: &mut Compile<'_>, list: &'n Node, what: &str) -> Option<&'n [Node]> {
    match list.as_list() {
        Some([]) => {
            let message = format!("{what} without steps does nothing");
            cx.refuse("policy.empty_list", list.span(), message, "write a step into it, or remove it")
        }
        Some(items) => Some(items),
        None => {
            let message = format!("expected a list of steps, got {}", list.kind());
            let help = "write each step on a line of its own, beginning with `- `";
            cx.refuse("policy.wrong_type", list.span(), message, help)
        }
    }
}

/// Routes among operations.
pub fn routes(ops: &[Op]) -> BTreeSet<StepId> {
    let id = |op: &Op| match op {
        Op::Route(id, _) => Some(*id),
        _ => None,
    };
    ops.iter().filter_map(id).collect()
}

impl Compile<'_> {
    /// Compiles what stands inside of something.
    pub fn within<T>(&mut self, inside: Inside, compile: impl FnOnce(&mut Self) -> T) -> T {
        self.inside.push(inside);
        let compiled = compile(self);
        self.inside.pop();
        compiled
    }

    /// Whether a fault has been caught here.
    pub fn is_catching(&self) -> bool {
        self.inside.contains(&Inside::Catch)
    }

    /// What a jump out of everything has to end first.
    pub(super) fn ways_out(&self) -> Vec<Op> {
        let end = |inside: &Inside| match inside {
            Inside::Frame => Some(Op::Close(0)),
            Inside::Loop => Some(Op::EndLoop),
            Inside::Catch => Some(Op::EndCatch),
            Inside::Parallel => None,
        };
        self.inside.iter().rev().filter_map(end).collect()
    }

    /// Compiles a block that begins with `before`.
    pub fn block(&mut self, list: &Node, path: &str, before: Flow) -> Block {
        let outer = std::mem::replace(&mut self.flow, before);
        let ops = self.steps(list, path);
        Block { ops, after: std::mem::replace(&mut self.flow, outer) }
    }

    /// Alternatives: each child in a frame of its own, the first that passes wins. A child whose `when` does not
    /// hold takes no part: it neither wins nor fails.
    pub fn alternatives(&mut self, step: &Step<'_>, items: &[Node], exhausts: Box<dyn Exhausts>) -> Vec<Op> {
        self.once(&step.path_of(""), |cx| cx.all_alternatives(step, items, exhausts))
    }

    fn all_alternatives(&mut self, step: &Step<'_>, items: &[Node], exhausts: Box<dyn Exhausts>) -> Vec<Op> {
        let id = self.current();
        let before = self.flow.clone();
        let mut undone = before.undone.clone();
        let (mut children, mut after) = (Vec::new(), None::<Flow>);
        let mut settled = false;
        for (index, item) in items.iter().enumerate() {
            if std::mem::replace(&mut settled, false) {
                let help = "remove it, or move it before the child that always passes";
                self.refuse::<()>("policy.unreachable_step", item.span(), "no request ever gets to this child", help);
            }
            self.flow = Flow { undone: undone.clone(), ..before.clone() };
            let (errors, first) = (self.diags.error_count(), self.steps.len());
            if let Some(child) = self.take_apart(item, format!("{}{}", step.path_of(""), index + 1)) {
                settled = child.when.is_none() && never_fails(child.kind);
                let ops = child_ops(self.within(Inside::Frame, |cx| cx.parts(&child)));
                undone.extend(routes(&ops.ops));
                undone.extend(self.unsafe_calls_since(first));
                children.push(ops);
                let inside = std::mem::take(&mut self.flow);
                after = Some(match after {
                    Some(others) => others.join(inside),
                    None => inside,
                });
            }
            self.incomplete |= self.diags.error_count() > errors;
        }
        self.flow = after.unwrap_or(before);
        let mut rest = children.iter().map(ChildOps::len).sum::<usize>() + 1;
        let mut ops = Vec::with_capacity(rest);
        for child in children {
            rest -= child.len();
            child.write(id, rest, &mut ops);
        }
        ops.push(Op::Exhausted(id, exhausts));
        ops
    }

    /// A block in a frame; what catches its faults follows it.
    pub fn caught(&mut self, frame: Frame, block: Vec<Op>, handler: Vec<Op>) -> Vec<Op> {
        let mut ops = vec![Op::Open(self.current(), frame, block.len() + 1)];
        ops.extend(block);
        ops.push(Op::Close(handler.len()));
        ops.extend(handler);
        ops
    }

    /// Warns where a request may be sent although an alternative has sent it before.
    pub fn check_sent_once(&mut self, span: Span, any_method: bool) {
        self.replayed.extend(&self.flow.undone);
        self.check_once(span, any_method, |cx, id| !cx.unsafe_calls.contains(&id));
    }

    /// The same for a call beside the request, with a method that is not safe.
    pub fn check_called_once(&mut self, span: Span, any_method: bool) {
        self.check_once(span, any_method, |cx, id| cx.unsafe_calls.contains(&id));
        self.unsafe_calls.insert(self.current());
    }

    /// Calls beside the request whose method is not safe, among the steps from this one on.
    pub fn unsafe_calls_since(&self, first: usize) -> BTreeSet<StepId> {
        let first = StepId::try_from(first).unwrap_or(StepId::MAX);
        self.unsafe_calls.range(first..).copied().collect()
    }

    fn check_once(&mut self, span: Span, any_method: bool, is_such: impl Fn(&Self, StepId) -> bool) {
        let Some(first) = self.flow.undone.iter().copied().find(|id| is_such(self, *id)) else { return };
        if any_method {
            return;
        }
        let first = self.steps.get(usize::from(first));
        let message = match first {
            Some(first) => format!("this may send a request that `{}` at {} has sent already", first.name, first.place),
            None => "this may send a request that was sent already".to_owned(),
        };
        let help = "where the upstreams stand being asked twice, say so: `retry: { any_method: true }`";
        self.report(Diagnostic::warning("policy.may_send_twice", span, message).with_help(help));
    }

    /// The `shadow` beside a step.
    pub(super) fn shadow_of(&mut self, item: &Node, entries: &[Entry]) -> Option<Span> {
        let entry = entries.iter().find(|entry| entry.key == "shadow")?;
        match item.get("shadow").and_then(Node::as_text) {
            Some("true") => Some(entry.key_span),
            Some("false") => None,
            _ => {
                let help = "write `shadow: true`, or remove it";
                self.refuse("policy.wrong_type", entry.value.span(), "`shadow` is true or false", help)
            }
        }
    }

    /// A step that only shows what it would deny.
    pub(super) fn shadowed(&mut self, step: &Step<'_>, id: StepId, span: Span) -> Vec<Op> {
        let before = self.flow.clone();
        let inner = self.within(Inside::Frame, |cx| cx.compiled(step, id));
        let inside: Vec<&Kind> =
            self.steps.iter().skip(usize::from(id)).filter_map(|meta| self.kind_of(meta)).collect();
        if inside.iter().any(|kind| kind.category == Category::Routing || kind.name == "stop") {
            let message = "a step that answers or sends cannot be shadowed: nothing takes that back";
            self.refuse::<()>("policy.shadow", span, message, "shadow the steps before it that deny");
        } else if !inside.iter().any(|kind| can_deny(kind)) {
            let message = format!("`{}` denies nothing that could be shadowed", step.kind.name);
            self.refuse::<()>("policy.shadow", span, message, "remove `shadow`");
        }
        let after = std::mem::take(&mut self.flow);
        self.flow = before.join(after);
        self.caught(Frame::Shadow, inner, Vec::new())
    }

    /// The body of a loop: what one round leaves is what the next one begins with. `item` and `index` are set at
    /// the top of each. Types that do not fit in the first round are wrong although later rounds would not tell: what
    /// may be of two types fits everything.
    pub fn rounds(&mut self, span: Span, own: [&str; 2], body: &mut dyn FnMut(&mut Self) -> Vec<Op>) -> Block {
        let before = self.flow.clone();
        let mut top = Flow { proven: Vec::new(), ..before.clone() };
        let (mut steady, mut changes) = (false, 0);
        let mut first_round = None;
        // What the first rounds find is provisional: it is kept only of steps that are known already.
        let provisional = self.inner.take_if(|inner| !inner.is_known());
        // Marks only grow: each pass finds one more at least.
        for _ in 0..STEPS_MAX {
            self.flow = top.clone();
            let said = std::mem::take(self.diags);
            let (steps, included, incomplete) = (self.steps.len(), self.included.len(), self.incomplete);
            let unsettled = self.unsettled.clone();
            body(self);
            let found = std::mem::replace(self.diags, said);
            first_round.get_or_insert(found);
            self.steps.truncate(steps);
            self.included.truncate(included);
            (self.incomplete, self.unsettled) = (incomplete, unsettled);
            let mut end = std::mem::take(&mut self.flow);
            end.roots.retain(|name, _| !own.contains(&&**name));
            let next = top.clone().join(end);
            steady = next.roots == top.roots;
            let marks_rest = next.carried == top.carried;
            changes += usize::from(!steady);
            top = next;
            if changes == PASSES_MAX || steady && marks_rest {
                break;
            }
        }
        self.inner = self.inner.take().or(provisional);
        if !steady {
            let message = "the variables of this loop do not keep one type from round to round";
            let help = "give what each round changes its type: `total: { value: ..., type: int }`";
            self.refuse::<()>("policy.loop_changes", span, message, help);
        }
        self.flow = top.clone();
        let said = std::mem::take(self.diags);
        let ops = body(self);
        let every_round = std::mem::replace(self.diags, said);
        for one in first_round.iter().flat_map(Diagnostics::iter) {
            if one.code == "expr.type_mismatch" && !every_round.iter().any(|other| other.span == one.span) {
                self.report(one.clone());
            }
        }
        self.diags.append(every_round);
        let mut end = std::mem::take(&mut self.flow);
        end.roots.retain(|name, _| !own.contains(&&**name));
        for (name, root) in &end.roots {
            if matches!(root, Root::Identity(identity) if !identity.absent) && !before.roots.contains_key(name) {
                let message = format!("each round would say anew who the caller is (`{name}`)");
                self.refuse::<()>("policy.identity_twice", span, message, "put the authentication before the loop");
            }
        }
        self.flow = before;
        Block { ops, after: top.join(end) }
    }

    /// The declaration of a step that was compiled.
    pub fn kind_of(&self, meta: &crate::engine::program::StepMeta) -> Option<&'static Kind> {
        self.around.catalogue.iter().find(|kind| *kind.name == *meta.assertion).copied()
    }
}

struct ChildOps {
    ops: Vec<Op>,
    /// It may take no part.
    conditional: bool,
}

fn child_ops(parts: crate::compile::steps::Parts) -> ChildOps {
    let crate::compile::steps::Parts { id, buffers: mut ops, condition, inner, .. } = parts;
    let conditional = condition.is_some();
    if let Some(condition) = condition {
        ops.push(Op::Unless(id, condition, inner.len() + 1));
    }
    ops.extend(inner);
    ChildOps { ops, conditional }
}

impl ChildOps {
    /// With what opens and closes its frame.
    fn len(&self) -> usize {
        self.ops.len() + 2 + usize::from(self.conditional)
    }

    /// `rest` operations follow it.
    fn write(self, id: StepId, rest: usize, out: &mut Vec<Op>) {
        let withdraw = usize::from(self.conditional);
        out.push(Op::Open(id, Frame::Child, self.ops.len() + 1 + withdraw));
        out.extend(self.ops);
        out.push(Op::Close(withdraw + rest));
        if self.conditional {
            out.push(Op::Withdraw);
        }
    }
}

/// Whether a step always passes or answers.
fn never_fails(kind: &Kind) -> bool {
    kind.faults.is_empty() && (kind.category != Category::Logic || kind.name == "stop")
}

/// Whether a step says no for another reason than a value that is absent.
fn can_deny(kind: &Kind) -> bool {
    let denies = |status: u16| (400..500).contains(&status);
    kind.name == "raise" || kind.faults.iter().any(|fault| denies(fault.status) && !fault.code.ends_with(".absent"))
}

#[cfg(test)]
mod tests;
