//! From a list of steps in a file to operations of a program.

mod mistakes;

pub(super) use self::mistakes::Inner;

use std::sync::Arc;

use crate::compile::context::{Compile, Part};
use crate::compile::flow::{Flow, Happened};
use crate::compile::kind::{Compiled, Ends, Kind};
use crate::compile::operator;
use crate::compile::text::Test;
use crate::engine::program::{Condition, Explained, Op, PutInBy, StepId, StepMeta};
use crate::engine::read::Side;
use crate::engine::value::Text;
use crate::source::{Diagnostic, Entry, Name, Node, NodeValue, Span, suggest};

/// Keys that may stand beside any assertion.
const STEP_KEYS: [&str; 4] = ["name", "when", "as", "shadow"];
/// Steps of one service, at most.
pub const STEPS_MAX: usize = 4096;

/// One step of a file, taken apart.
pub struct Step<'s> {
    pub kind: &'static Kind,
    /// The assertion's name in the file: of a built-in one, or of an operator's own.
    pub word: &'s str,
    /// Where that stands.
    pub span: Span,
    /// `None` for a bare word.
    params: Option<&'s Node>,
    node: &'s Node,
    pub name: Option<String>,
    /// The `as:` beside it.
    pub renamed: Option<Name>,
    pub(super) when: Option<&'s Node>,
    /// The `shadow` beside it.
    shadow: Option<Span>,
    /// Index path of its children: `3.`.
    path: String,
}

/// What a step becomes, its condition apart.
#[derive(Default)]
pub(super) struct Parts {
    pub id: StepId,
    /// What the condition reads.
    pub buffers: Vec<Op>,
    pub condition: Option<Box<dyn Condition>>,
    pub inner: Vec<Op>,
    /// The state where the condition does not hold.
    before: Flow,
}

impl<'s> Step<'s> {
    /// The raw node of its parameters, at the assertion's name for a bare word.
    pub fn parameter_node(&self) -> Node {
        self.params.cloned().unwrap_or_else(|| Node::new(self.span, NodeValue::Null))
    }

    /// The name that its outputs go under instead of the documented root.
    pub fn renamed(&self) -> Option<&str> {
        self.renamed.as_ref().map(|name| name.name.as_str())
    }

    /// A block beside it, such as `then`.
    pub fn block(&self, name: &str) -> Option<&'s Node> {
        let misspelt = |entry: &&Entry| {
            let known = STEP_KEYS.iter().chain(self.kind.blocks).any(|key| *key == entry.key);
            !known && entry.key != self.word && suggest(&entry.key, self.kind.blocks.iter().copied()) == Some(name)
        };
        // One that is nearly right has been reported: that it is missing is the same mistake.
        let near = || self.node.as_map()?.iter().find(misspelt).map(|entry| &entry.value);
        self.node.get(name).or_else(near)
    }

    /// Index path for the steps of a block.
    pub fn path_of(&self, block: &str) -> String {
        if block.is_empty() { format!("{}.", self.path) } else { format!("{}.{block}.", self.path) }
    }
}

impl Compile<'_> {
    /// Compiles a list of steps; `path` is the prefix of their index paths.
    pub fn steps(&mut self, list: &Node, path: &str) -> Vec<Op> {
        self.once(path, |cx| cx.all_steps(list, path))
    }

    fn all_steps(&mut self, list: &Node, path: &str) -> Vec<Op> {
        let Some(items) = list.as_list() else {
            let message = format!("expected a list of steps, got {}", list.kind());
            let help = "write each step on a line of its own, beginning with `- `";
            // Nowhere is what stands in for a list that was reported.
            if !list.span().is_nowhere() {
                self.refuse::<()>("policy.wrong_type", list.span(), message, help);
            }
            self.incomplete = true;
            return Vec::new();
        };
        let mut ops = Vec::new();
        let mut unreachable = false;
        for (index, item) in items.iter().enumerate() {
            if self.flow.ended && !unreachable {
                unreachable = true; // one message for all that follow
                let help = "remove it, or move it before the step that ends the pipeline";
                self.refuse::<()>("policy.unreachable_step", item.span(), "no request ever gets to this step", help);
            }
            let errors = self.diags.error_count();
            if let Some(step) = self.take_apart(item, format!("{path}{}", index + 1)) {
                ops.extend(self.step(&step));
            }
            self.incomplete |= self.diags.error_count() > errors;
        }
        ops
    }

    pub(super) fn take_apart<'n>(&mut self, item: &'n Node, path: String) -> Option<Step<'n>> {
        let bare = |kind, word, span| {
            let (params, name, renamed, when, shadow) = (None, None, None, None, None);
            Step { kind, word, span, params, node: item, name, renamed, when, shadow, path }
        };
        if let Some(word) = item.as_text() {
            let Some(kind) = self.kind(word, item.span()) else { return self.sets_unknown(word, item) };
            return Some(bare(kind, word, item.span()));
        }
        let Some(entries) = item.as_map() else {
            let message = format!("expected a step, got {}", item.kind());
            let help =
                "a step is an assertion with its parameters: `- set_headers: { x-a: b }`, or a bare word: `- stop`";
            return self.refuse("policy.wrong_type", item.span(), message, help);
        };
        let entry = self.assertion_of(entries, item.span())?;
        let Some(kind) = self.kind(&entry.key, entry.key_span) else { return self.sets_unknown(&entry.key, item) };
        for other in entries {
            self.check_step_key(kind, entry, other);
        }
        let mut step = bare(kind, &entry.key, entry.key_span);
        step.params = Some(&entry.value);
        step.name = item.get("name").and_then(Node::as_text).map(str::to_owned);
        step.when = item.get("when");
        step.shadow = self.shadow_of(item, entries);
        step.renamed = item.get("as").and_then(|node| self.renamed(kind, node));
        Some(step)
    }

    /// The one key of a step that is its assertion.
    fn assertion_of<'n>(&mut self, entries: &'n [Entry], span: Span) -> Option<&'n Entry> {
        let blocks: Vec<&str> = self.around.catalogue.iter().flat_map(|kind| kind.blocks.iter().copied()).collect();
        let is_beside =
            |entry: &&Entry| STEP_KEYS.contains(&entry.key.as_str()) || blocks.contains(&entry.key.as_str());
        let around = self.around;
        let known = |entry: &&Entry| {
            around.catalogue.iter().any(|kind| kind.name == entry.key)
                || around.operators.contains_key(entry.key.as_str())
        };
        let mut candidates = entries.iter().filter(|entry| !is_beside(entry));
        let first = candidates.next();
        let Some(first) = first else {
            let help = "beside `name`, `when` and `as` a step needs the assertion itself";
            return self.refuse("policy.no_assertion", span, "this step has no assertion", help);
        };
        let rest: Vec<&Entry> = candidates.collect();
        let chosen = std::iter::once(first).chain(rest.iter().copied()).find(known).unwrap_or(first);
        let own_blocks =
            self.around.catalogue.iter().filter(|kind| kind.name == chosen.key).flat_map(|kind| kind.blocks);
        let beside: Vec<&str> = STEP_KEYS.iter().chain(own_blocks).copied().collect();
        for other in std::iter::once(first).chain(rest).filter(|other| other.key != chosen.key) {
            if !known(&other)
                && let Some(near) = suggest(&other.key, beside.iter().copied())
            {
                let message = format!("unknown key `{}` beside `{}`", other.key, chosen.key);
                let help = format!("did you mean `{near}`?");
                self.refuse::<()>("policy.unknown_key", other.key_span, message, &help);
                continue;
            }
            let message = format!("`{}` cannot stand beside `{}`: a step has one assertion", other.key, chosen.key);
            let help = if other.key == "if" || chosen.key == "if" {
                "for one step use `when`; `if` takes `then` and `else`".to_owned()
            } else if known(&other) {
                "begin a new step with `- `".to_owned()
            } else {
                format!("if it is a parameter of `{}`, indent it below that", chosen.key)
            };
            self.refuse::<()>("policy.two_assertions", other.key_span, message, &help);
        }
        Some(chosen)
    }

    fn check_step_key(&mut self, kind: &Kind, assertion: &Entry, other: &Entry) {
        let key = other.key.as_str();
        if key == assertion.key {
            return;
        }
        if (key == "name" || key == "when") && other.value.as_text().is_none() {
            let message = format!("`{key}` takes a text, got {}", other.value.kind());
            self.refuse::<()>("policy.wrong_type", other.value.span(), message, "put it in quotes, on one line");
        } else if !STEP_KEYS.contains(&key)
            && !kind.blocks.contains(&key)
            && self.around.catalogue.iter().any(|kind| kind.blocks.contains(&key))
        {
            let message = format!("`{key}` does not belong to `{}`", assertion.key);
            self.refuse::<()>(
                "policy.unknown_key",
                other.key_span,
                message,
                "indent it below the step that it belongs to",
            );
        }
    }

    fn renamed(&mut self, kind: &Kind, node: &Node) -> Option<Name> {
        let name = node.as_text().unwrap_or_default();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(legal) {
            let message = "`as` takes a name: lower-case letters, digits and `_`, a letter first";
            return self.refuse("policy.bad_value", node.span(), message, "write `as: second`");
        }
        if crate::compile::scope::RESERVED.contains(&name) {
            let message = format!("`{name}` is a name of the language itself");
            return self.refuse("policy.reserved_name", node.span(), message, "choose another name");
        }
        // What an operator's own sets is known where its inputs are read.
        if kind.sets.is_empty() && kind.name != operator::KIND.name {
            let message = format!("`{}` sets nothing that `as` could rename", kind.name);
            return self.refuse("policy.unknown_key", node.span(), message, "remove `as`");
        }
        Some(Name { name: name.into(), span: node.span() })
    }

    fn kind(&mut self, word: &str, span: Span) -> Option<&'static Kind> {
        let catalogue = self.around.catalogue;
        if let Some(kind) = catalogue.iter().find(|kind| kind.name == word) {
            return Some(kind);
        }
        let own = self.around.operators;
        match own.get(word) {
            Some(Some(operator)) if !operator.is_mangled => return Some(&operator::KIND),
            Some(_) => {
                self.incomplete = true; // its own document reports what is wrong with it
                return None;
            }
            None => {}
        }
        let message = format!("there is no assertion called `{word}`");
        let names = catalogue.iter().map(|kind| kind.name).chain(own.keys().map(AsRef::as_ref));
        let help = match suggest(word, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`gatewright docs` lists all assertions".to_owned(),
        };
        self.report(Diagnostic::error("policy.unknown_assertion", span, message).with_label("unknown").with_help(help));
        None
    }

    /// A step that nobody knows sets what the one sets that was probably meant.
    fn sets_unknown<T>(&mut self, word: &str, item: &Node) -> Option<T> {
        let catalogue = self.around.catalogue;
        let meant = suggest(
            word,
            catalogue.iter().map(|kind| kind.name).chain(self.around.operators.keys().map(AsRef::as_ref)),
        );
        let kind = catalogue.iter().find(|kind| Some(kind.name) == meant);
        if kind.is_some_and(|kind| kind.name == "route") {
            self.flow.routed = Happened::Always;
        }
        let roots = kind.iter().flat_map(|kind| kind.sets).filter_map(|output| output.name.split('.').next());
        let renamed = item.get("as").and_then(Node::as_text);
        let names: Vec<Text> = roots.chain([word]).chain(meant).chain(renamed).map(Text::from).collect();
        self.unsettled.extend(names);
        None
    }

    pub(super) fn step(&mut self, step: &Step<'_>) -> Vec<Op> {
        let Parts { id, buffers: mut ops, condition, inner, before } = self.parts(step);
        if step.when.is_some() {
            let inside = std::mem::replace(&mut self.flow, before);
            let around = std::mem::take(&mut self.flow);
            self.flow = around.join(inside);
        }
        if let Some(condition) = condition {
            ops.push(Op::Unless(id, condition, inner.len()));
        }
        ops.extend(inner);
        ops
    }

    /// Compiles a step whose condition the caller puts in its place; the state is that inside of the condition.
    pub(super) fn parts(&mut self, step: &Step<'_>) -> Parts {
        if self.steps.len() >= STEPS_MAX {
            let message = format!("a service has at most {STEPS_MAX} steps, includes counted");
            self.refuse::<()>("policy.too_many_steps", step.span, message, "split the service");
            return Parts::default();
        }
        if self.part == Part::Finally && !step.kind.in_finally {
            let message = format!("`{}` cannot stand in `finally`", step.kind.name);
            let help = "`finally` takes steps that record (`audit`, `log`) and `set`: the answer has left";
            self.refuse::<()>("policy.not_in_finally", step.span, message, help);
            return Parts::default();
        }
        let (outer, outer_span) = (self.current, self.step_span);
        let id = self.begin(step);
        let outer_needs = std::mem::take(&mut self.needs);
        let before = self.flow.clone();
        let condition = step.when.and_then(|when| self.condition(when));
        let buffers = self.buffers(id);
        if let Some(condition) = &condition {
            self.flow.proven.extend(condition.proves.iter().cloned());
        }
        self.needs = Default::default();
        let inner = match step.shadow {
            Some(span) => self.shadowed(step, id, span),
            None => self.compiled(step, id),
        };
        self.needs = outer_needs;
        self.remember();
        (self.current, self.step_span) = (outer, outer_span);
        Parts { id, buffers, condition: condition.map(|condition| Box::new(Test(condition)) as _), inner, before }
    }

    fn begin(&mut self, step: &Step<'_>) -> StepId {
        let id = StepId::try_from(self.steps.len()).unwrap_or(StepId::MAX);
        let place = self.around.sources.place(step.span);
        let assertion = step.word;
        self.steps.push(StepMeta {
            name: step.name.as_deref().unwrap_or(assertion).into(),
            assertion: assertion.into(),
            place: Arc::from(format!("{}:{}", place.file, place.line)),
            span: step.span,
            path: step.path.as_str().into(),
            reads: Vec::new(),
            raises: Vec::new(),
            explained: self.explained(step),
        });
        self.current = id;
        self.step_span = step.span;
        id
    }

    fn explained(&self, step: &Step<'_>) -> Explained {
        let own = self.operator().map(|name| PutInBy::Assertion(name.into()));
        let fragment = || self.includes.last().map(|name| PutInBy::Fragment(name.clone()));
        let from = own.or_else(fragment).or_else(|| self.defaults.clone().map(PutInBy::Defaults));
        let written = match step.params.map(|node| (node.as_map(), node.is_null())) {
            Some((Some(entries), _)) => entries.iter().map(|entry| entry.key.as_str().into()).collect(),
            Some((None, false)) => step.kind.main.iter().map(|main| (*main).into()).collect(),
            _ => Vec::new(),
        };
        let decides = match step.kind.name {
            "if" | "switch" => {
                step.params.and_then(|node| node.as_text().or_else(|| node.get(step.kind.main?)?.as_text()))
            }
            _ => None,
        };
        let when = step.when.and_then(Node::as_text).map(one_line);
        Explained { from, message: None, written, when, decides: decides.map(one_line) }
    }

    pub(super) fn compiled(&mut self, step: &Step<'_>, id: StepId) -> Vec<Op> {
        let compiled = self.compile_kind(step);
        if step.kind.ends == Ends::Always {
            self.flow.ended = true;
        }
        self.check_stays_inside(step);
        let mut ops = self.buffers(id);
        match compiled {
            None => {}
            Some(Compiled::Plain(plain)) => ops.push(Op::Plain(id, plain)),
            Some(Compiled::Waits(waits)) => ops.push(Op::Waits(id, waits)),
            Some(Compiled::Route(route)) => {
                if self.looping > 0 {
                    let help = "a request is sent once: route behind the loop";
                    self.refuse::<()>("policy.route_in_loop", step.span, "a `route` cannot stand in a loop", help);
                }
                // Becomes a buffer where a later step reads the request's body: see `hold_for_later`.
                ops.push(Op::Jump(0));
                ops.push(Op::Route(id, route));
                self.flow.routed = Happened::Always;
                self.flow.proven.retain(|present| !is_of_response(&present.read));
            }
            Some(Compiled::Ops(inner)) => ops.extend(inner),
        }
        ops
    }

    /// Buffers for what the step at hand reads; nothing waits in `finally`.
    fn buffers(&mut self, id: StepId) -> Vec<Op> {
        let mut ops = Vec::new();
        if self.part != Part::Finally {
            if self.needs.request {
                ops.push(Op::Buffer(id, Side::Request));
            }
            if self.needs.response {
                ops.push(Op::Buffer(id, Side::Response));
            }
        }
        ops
    }

    /// Where a step behind a `route` reads the request's body, routes have to hold it.
    pub fn hold_for_later(&self, ops: &mut [Op]) {
        for at in 1..ops.len() {
            let Some(Op::Route(id, _)) = ops.get(at) else { continue };
            let hold = match (&self.late_request, self.replayed.contains(id)) {
                (Some(_), _) => Op::Buffer(*id, Side::Request),
                (None, true) => Op::Hold(*id),
                (None, false) => continue,
            };
            if let Some(before) = ops.get_mut(at - 1) {
                *before = hold;
            }
        }
    }
}

/// An expression on one line.
fn one_line(text: &str) -> Arc<str> {
    text.split_whitespace().collect::<Vec<_>>().join(" ").into()
}

fn is_of_response(read: &crate::engine::read::Read) -> bool {
    use crate::engine::read::Read;
    matches!(read, Read::Header(Side::Response, _) | Read::HeaderAll(Side::Response, _) | Read::Json(Side::Response))
}
