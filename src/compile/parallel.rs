//! The children of `parallel`: each is compiled to a program of its own from the same state, and afterwards all that
//! they have set is set.
//!
//! What would make the outcome hang on who was first, or be lost with the fork of a child, is refused here: two
//! children that write one variable, a message that is changed, an answer, a way out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::compile::Compile;
use crate::compile::blocks::Inside;
use crate::compile::flow::Flow;
use crate::compile::steps::Step;
use crate::engine::parallel::Parallel;
use crate::engine::program::{Op, Program};
use crate::engine::read::Side;
use crate::engine::value::Text;
use crate::source::{Diagnostic, Node, Span};

/// Children of one `parallel`, at most: each forks the exchange.
pub const CHILDREN_MAX: usize = 16;
/// `parallel` inside of `parallel`, at most.
pub const NESTED_MAX: usize = 2;
/// Children that can wait, below which nothing is gained.
const WAITING_MIN: usize = 2;

/// Roots of variables and identities that a child has written, and where.
#[derive(Default)]
pub(super) struct Written(BTreeMap<Text, Span>);

/// What the children become.
#[derive(Default)]
struct Children {
    programs: Vec<Program>,
    /// Bodies that they read whole: the exchange has to hold them before it is forked.
    buffers: Vec<Op>,
    written: Written,
    waiting: usize,
}

impl Compile<'_> {
    /// Steps that run at once. `None` where there are too many, which is reported.
    pub fn side_by_side(&mut self, step: &Step<'_>, items: &[Node], time_limit: Option<Duration>) -> Option<Vec<Op>> {
        if items.len() > CHILDREN_MAX {
            let message = format!("{} children, at most {CHILDREN_MAX} run at once", items.len());
            return self.refuse("policy.bad_value", step.span, message, "group them: `- all: [...]` is one child");
        }
        if self.children.len() >= NESTED_MAX {
            let message = format!("`parallel` stands in `parallel` at most {NESTED_MAX} deep");
            return self.refuse("policy.bad_value", step.span, message, "put the inner children beside the outer ones");
        }
        Some(self.once(&step.path_of(""), |cx| cx.all_children(step, items, time_limit)))
    }

    fn all_children(&mut self, step: &Step<'_>, items: &[Node], time_limit: Option<Duration>) -> Vec<Op> {
        let id = self.current();
        let before = self.flow.clone();
        let mut after = before.clone();
        let mut children = Children::default();
        for (index, item) in items.iter().enumerate() {
            self.flow = before.clone();
            let errors = self.diags.error_count();
            if let Some(child) = self.take_apart(item, format!("{}{}", step.path_of(""), index + 1)) {
                self.child(&child, &mut children, &mut after);
            }
            self.incomplete |= self.diags.error_count() > errors;
        }
        self.flow = after;
        if let Some(outer) = self.children.last_mut() {
            outer.0.extend(children.written.0);
        }
        if children.waiting < WAITING_MIN && !self.incomplete {
            let message = "nothing is gained here: fewer than two of these children can wait";
            let help = "write `all` in its place: what never waits runs one after the other all the same";
            self.report(Diagnostic::warning("policy.nothing_waits", step.span, message).with_help(help));
        }
        let mut ops = children.buffers;
        ops.push(Op::Waits(id, Box::new(Parallel::new(children.programs, time_limit))));
        ops
    }

    fn child(&mut self, child: &Step<'_>, children: &mut Children, after: &mut Flow) {
        self.children.push(Written::default());
        let ops = self.within(Inside::Parallel, |cx| cx.step(child));
        let written = self.children.pop().unwrap_or_default();
        let flow = std::mem::take(&mut self.flow);
        // A name that means something within the child alone, such as the item of a loop, is nobody else's matter.
        let lasting: BTreeMap<Text, Span> = written
            .0
            .into_iter()
            .filter(|(root, _)| flow.roots.keys().any(|name| self.scoped(name) == *root))
            .collect();
        for (root, span) in &lasting {
            if let Some(first) = children.written.0.get(root) {
                self.refuse_second_writer(root, *first, *span);
            }
        }
        for op in &ops {
            if let Op::Buffer(id, side) = op
                && !children.holds(*side)
            {
                children.buffers.push(Op::Buffer(*id, *side));
            }
        }
        children.waiting += usize::from(ops.iter().any(|op| matches!(op, Op::Waits(..))));
        children.programs.push(Program { ops });
        after.beside(flow, |name| lasting.contains_key(&self.scoped(name)));
        for (root, span) in lasting {
            children.written.0.entry(root).or_insert(span);
        }
    }

    fn refuse_second_writer(&mut self, root: &str, first: Span, second: Span) {
        let around = self.scoped("");
        let root = root.strip_prefix(&*around).unwrap_or(root); // as it is called where it stands
        let message = format!("two children of `parallel` set `{root}`: which of them counts would be chance");
        let help =
            "give it another name in one of them (`as: second` beside an assertion), or set it behind `parallel`";
        let diagnostic = Diagnostic::error("policy.parallel_writes", second, message).with_note(first, "the other one");
        self.report(diagnostic.with_help(help));
    }

    /// Notes that the step at hand writes a variable or an identity.
    pub(super) fn note_written(&mut self, root: &Text) {
        let span = self.step_span;
        if let Some(child) = self.children.last_mut() {
            child.0.entry(root.clone()).or_insert(span);
        }
    }

    /// Notes that the step at hand changes a message, its limits, or whatever leaves: a child of `parallel` must not,
    /// its changes would be lost.
    pub fn changes_message(&mut self, span: Span) {
        if !self.children.is_empty() {
            let message = "a child of `parallel` cannot change a message: others read it at the same time";
            let help = "set a variable here, and change the message behind `parallel`";
            self.refuse::<()>("policy.parallel_message", span, message, help);
        }
    }

    /// Refuses what would end the pipeline, or leave an assertion, from within a child of `parallel`.
    pub(super) fn check_stays_inside(&mut self, step: &Step<'_>) {
        let answers = step.kind.is_of_request() && !self.children.is_empty();
        let leaves = step.kind.name == "stop" && self.inside.contains(&Inside::Parallel);
        if answers || leaves {
            let message = format!("`{}` cannot stand in `parallel`: others still run", step.word);
            let help = "put it behind `parallel`; what a child has found out goes there in a variable";
            self.refuse::<()>("policy.parallel_ends", step.span, message, help);
            self.flow.ended = false; // what follows is not to blame
        }
    }
}

impl Children {
    fn holds(&self, wanted: Side) -> bool {
        self.buffers.iter().any(|op| matches!(op, Op::Buffer(_, side) if *side == wanted))
    }
}
