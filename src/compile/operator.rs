//! Operators' assertions: steps with typed ends, put in at the place of use.
//!
//! A use is compiled by putting its steps in, with a scope of its own: inside, `input.NAME`, the messages,
//! `service`, `env`, secrets and lists can be read, and nothing of the caller. What the steps set stays inside,
//! but for the declared outputs. So whoever reads a service needs to know the ends of an assertion only.
//!
//! Not here: the documents (`policy/assertion.rs`), and the values that go in (`operator/inputs.rs`).

pub mod inputs;
mod outputs;

use std::collections::BTreeMap;

use crate::compile::context::Compile;
use crate::compile::flow::{Flow, Happened};
use crate::compile::kind::{Category, Compiled, Kind};
use crate::compile::operator::inputs::{Bound, Input};
use crate::compile::scope::RESERVED;
use crate::compile::steps::{Inner, Step};
use crate::compile::writers::Writers;
use crate::engine::exchange::Exchange;
use crate::engine::program::{Op, Plain, Verdict};
use crate::engine::read::{Read, Slot};
use crate::engine::value::{Facts, Text, Type};
use crate::expr::{Resolved, Segment, Unresolved};
use crate::source::{Diagnostics, Name, Node, Span};

pub use crate::compile::operator::outputs::Output;

/// Assertions within each other, at most. Fragments between them count too.
pub const NESTED_MAX: usize = 32;
/// The distance of a jump out of an assertion, until its end is known.
const LEAVE: usize = usize::MAX;

/// First words of codes that the gateway itself raises, beside the names of assertions.
pub const OWN_WORDS: [&str; 16] = [
    "body",
    "client",
    "deadline",
    "expr",
    "expression",
    "gateway",
    "json",
    "mark",
    "policy",
    "request",
    "response",
    "service",
    "step",
    "store",
    "upstream",
    "internal",
];

/// An operator's assertion, as its document declares it.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its name, at its place.
    pub name: Name,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    /// Its `policy:`.
    pub steps: Node,
    /// Parts of its document were wrong, which was reported: its steps are checked, and its uses are not.
    pub is_mangled: bool,
    /// Some of the inputs are among those parts.
    pub lacks_inputs: bool,
}

/// What all uses have in common for the compiler of steps.
pub static KIND: Kind = Kind {
    in_finally: true,
    bodies: "as its steps",
    compile: compile_use,
    ..Kind::of::<NoParameters>("assertion", "An operator's own assertion.", Category::Logic)
};

/// Stands in [`KIND`]; the inputs are read against the declaration.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct NoParameters {}

impl crate::compile::Assertion for NoParameters {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        compile_use(step, cx)
    }
}

/// The scope of an assertion that is being compiled.
pub struct Frame {
    /// Its name: its codes begin with it.
    name: Text,
    /// Where it is used, in front of the names of its variables: each use has its own.
    prefix: String,
    inputs: BTreeMap<Text, Bound>,
    /// The state at each `stop`: the assertion has passed there.
    left: Vec<Flow>,
    /// It may have other inputs, which could not be read.
    lacks_inputs: bool,
}

/// What is known of an assertion that was compiled by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alone {
    /// It reads the response: it stands behind a `route`.
    pub needs_response: bool,
    /// There may be a response after it.
    pub routed: Happened,
    /// It never passes: it answers or raises on every way.
    pub ended: bool,
}

/// Compiles an assertion by itself, with the declared types, so that its mistakes are reported once and also
/// where nobody uses it.
pub fn alone(operator: &Operator, cx: &mut Compile<'_>) -> Alone {
    let outer = std::mem::take(cx.diags);
    let without = trial(operator, cx, Happened::Never);
    let mut found = std::mem::take(cx.diags);
    let needs_response = found.iter().any(|one| one.code == NO_RESPONSE);
    let (routed, ended) = if needs_response {
        let with = trial(operator, cx, Happened::Always);
        found = std::mem::take(cx.diags);
        with
    } else {
        without
    };
    *cx.diags = outer;
    cx.diags.append(found);
    Alone { needs_response, routed, ended }
}

/// Code of what needs a response and has none.
const NO_RESPONSE: &str = "policy.no_response";

fn trial(operator: &Operator, cx: &mut Compile<'_>, routed: Happened) -> (Happened, bool) {
    cx.steps.clear();
    cx.unsettled.clear();
    cx.flow = Flow { routed, ..Flow::default() };
    let inputs = operator.inputs.iter().map(|input| {
        let slot = cx.slot("input", &input.name.name);
        (input.name.name.as_str().into(), Bound::Slot(slot, input.facts()))
    });
    let frame = Frame {
        name: operator.name.name.as_str().into(),
        prefix: String::new(),
        inputs: inputs.collect(),
        left: Vec::new(),
        lacks_inputs: operator.lacks_inputs,
    };
    cx.operating.push(operator.name.name.as_str().into());
    cx.body(operator, frame, "");
    cx.operating.pop();
    (cx.flow.routed, cx.flow.ended)
}

fn compile_use(step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
    let operators = cx.around.operators;
    let operator = operators.get(step.word)?.as_ref()?;
    if let Some(renamed) = &step.renamed
        && operator.outputs.is_empty()
    {
        let message = format!("`{}` sets nothing that `as` could rename", step.word);
        return cx.refuse("policy.unknown_key", renamed.span, message, "remove `as`");
    }
    cx.check_nesting(operator, step.span)?;
    let id = cx.current();
    let arguments = inputs::arguments(operator, step, cx);
    // Its steps are compiled once; what goes in is judged again without what is wrong with it.
    let mut known = cx.inner.take();
    if known.as_ref().is_some_and(Inner::is_known) {
        cx.inner = known;
        return None;
    }
    let first = cx.room().0;
    let prefix = step.path_of(step.word);
    let (bind, bound) = match arguments {
        Some(arguments) => arguments.bind(&prefix, cx),
        // Its steps are checked all the same: as if everything had been given.
        None => inputs::declared(operator, &prefix, cx),
    };
    let (name, left, lacks_inputs) = (step.word.into(), Vec::new(), operator.lacks_inputs);
    let frame = Frame { name, prefix: prefix.clone(), inputs: bound, left, lacks_inputs };
    let caller = cx.flow.clone();
    cx.flow.roots.clear();
    cx.flow.writers = Writers::default();
    let outer = std::mem::take(cx.diags);
    let unsettled = std::mem::take(&mut cx.unsettled);
    cx.operating.push(step.word.into());
    let (mut ops, given) = cx.body(operator, frame, &prefix);
    cx.operating.pop();
    cx.unsettled = unsettled;
    let inner = std::mem::replace(cx.diags, outer);
    cx.report_use(operator, step.span, &inner);
    let inside = std::mem::take(&mut cx.flow);
    let proven = caller.proven.into_iter().filter(|present| inside.proven.contains(present)).collect();
    let (roots, writers) = (caller.roots, caller.writers);
    cx.flow = Flow { roots, proven, writers, ..inside };
    let variables = first..cx.room().0; // those inside: a place of use has its own
    let give = outputs::give(given, step, cx);
    if let Some(known) = &mut known {
        known.remember(&prefix, cx.flow.clone());
    }
    cx.inner = known;
    ops.push(Op::Plain(id, give));
    ops.insert(0, Op::Enter(id, Box::new(bind.clearing(variables)), ops.len()));
    Some(Compiled::Ops(ops))
}

impl Compile<'_> {
    /// The name of the assertion whose steps are being compiled.
    pub fn operator(&self) -> Option<&str> {
        self.frame.as_ref().map(|frame| &*frame.name)
    }

    /// Checks a code that a policy writes: the codes of an assertion begin with its name, and no others do.
    pub fn check_code(&mut self, code: &str, span: Span) -> Option<()> {
        let current = usize::from(self.current());
        if let Some(step) = self.steps.get_mut(current) {
            step.raises.push((code.into(), span));
        }
        let (first, rest) = code.split_once('.').unwrap_or((code, "reason"));
        match self.operator() {
            Some(operator) if operator == first => Some(()),
            Some(operator) => {
                let message = format!("codes of `{operator}` begin with its name");
                let help = format!("write `{operator}.{rest}`");
                self.refuse("policy.reserved_code", span, message, &help)
            }
            None if self.around.operators.contains_key(first) => {
                let message = format!("codes that begin with `{first}.` are those of the assertion `{first}`");
                self.refuse("policy.reserved_code", span, message, "begin it with a word of your own")
            }
            None => Some(()),
        }
    }

    /// The name of a variable as the service keeps it: those inside of an assertion are its own.
    pub(super) fn scoped(&self, root: &str) -> Text {
        match &self.frame {
            Some(frame) => format!("{}{root}", frame.prefix).into(),
            None => root.into(),
        }
    }

    /// Notes that the assertion at hand passes here and its other steps are left out. `None` outside of one.
    pub fn leave(&mut self) -> Option<Compiled> {
        let left = self.flow.clone();
        let id = self.current();
        self.frame.as_mut()?.left.push(left);
        let mut ops = vec![Op::Plain(id, Box::new(Leaves))];
        ops.extend(self.ways_out());
        ops.push(Op::Jump(LEAVE));
        Some(Compiled::Ops(ops))
    }

    /// Compiles the steps of an assertion in its scope. Afterwards `flow` is the one inside.
    fn body(&mut self, operator: &Operator, frame: Frame, path: &str) -> (Vec<Op>, Vec<outputs::Given>) {
        let outer = self.frame.replace(Box::new(frame));
        let incomplete = std::mem::take(&mut self.incomplete);
        let around = std::mem::take(&mut self.inside);
        let mut ops = self.steps(&operator.steps, path);
        self.inside = around;
        let end = ops.len();
        for (at, op) in ops.iter_mut().enumerate() {
            if let Op::Jump(by) = op
                && *by == LEAVE
            {
                *by = end - at - 1;
            }
        }
        let frame = std::mem::replace(&mut self.frame, outer);
        for left in frame.map(|frame| frame.left).unwrap_or_default() {
            self.flow = std::mem::take(&mut self.flow).join(left);
        }
        let whole = !self.incomplete;
        self.incomplete |= incomplete;
        (ops, outputs::collect(operator, whole, self))
    }

    fn check_nesting(&mut self, operator: &Operator, span: Span) -> Option<()> {
        let name = &operator.name.name;
        if self.operating.iter().any(|outer| **outer == **name) {
            let way: Vec<&str> = self.operating.iter().map(AsRef::as_ref).collect();
            let message = format!("`{name}` uses itself: {} -> {name}", way.join(" -> "));
            return self.refuse("policy.assertion_cycle", span, message, "take one of the uses out");
        }
        if self.operating.len() + self.includes.len() >= NESTED_MAX {
            let message = format!("assertions and fragments stand in each other {NESTED_MAX} deep at most");
            return self.refuse("policy.nested_too_deep", span, message, "put their steps into one assertion");
        }
        Some(())
    }

    /// Passes on what was found inside, with the place of use. What is wrong in itself was reported by
    /// [`alone`] before, and is said once.
    fn report_use(&mut self, operator: &Operator, used: Span, inner: &Diagnostics) {
        let name = &operator.name.name;
        if let Some(one) = inner.iter().find(|one| one.code == NO_RESPONSE) {
            let message = format!("`{name}` reads the response, and no `route` stands before this step");
            let mut diagnostic = crate::source::Diagnostic::error(NO_RESPONSE, used, message);
            if let Some(span) = one.span {
                diagnostic = diagnostic.with_note(span, "it is read here");
            }
            self.report(diagnostic.with_help("move the step behind the `route`"));
            return;
        }
        for one in inner.iter() {
            self.report(one.clone().with_note(used, format!("`{name}` is used here")));
        }
    }

    /// `input.NAME`.
    pub(super) fn input(&self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let Some(frame) = &self.frame else {
            let message = "`input` exists in `assertion:` documents only".to_owned();
            return Err(outside(message, "read the variable itself, such as `request.query.tenant`".to_owned(), 0));
        };
        let name = path.get(1).map_or("", |segment| segment.name);
        match frame.inputs.get(name) {
            Some(bound) => Ok(bound.resolved()),
            None if frame.lacks_inputs && !name.is_empty() => {
                Ok(Resolved::Read { read: Read::Slot(Slot(0)), facts: Facts::policy(Type::Any), used: path.len() })
            }
            None => {
                let message = match name {
                    "" => "`input` is not a value: read one of its members".to_owned(),
                    name => format!("`{}` declares no input `{name}`", frame.name),
                };
                let known = || frame.inputs.keys().map(AsRef::as_ref);
                let help = match crate::source::suggest(name, known()) {
                    Some(near) => format!("did you mean `input.{near}`?"),
                    None if frame.inputs.is_empty() => {
                        format!("declare it: `inputs: {{ {name}: {{ type: string, required: true }} }}`")
                    }
                    None => format!("it declares: {}", known().collect::<Vec<&str>>().join(", ")),
                };
                Err(outside(message, help, 1))
            }
        }
    }

    /// Why a name of the caller means nothing inside of an assertion; `None` where it is not of the caller's.
    pub(super) fn of_the_caller(&self, name: &str) -> Option<Unresolved> {
        let frame = self.frame.as_ref()?;
        let of_service = matches!(name, "path" | "fault");
        let messages = RESERVED.contains(&name) && !of_service && name != "auth";
        if messages || self.flow.roots.contains_key(name) || self.unsettled.contains(name) {
            return None;
        }
        let message = match of_service {
            true => format!("`{name}` belongs to the service that uses `{}`", frame.name),
            false => format!("no step of `{}` before this one sets `{name}`", frame.name),
        };
        let near = crate::source::suggest(name, self.flow.roots.keys().map(AsRef::as_ref).chain(["input"]));
        let help = match (near, frame.inputs.contains_key(name)) {
            (_, true) => format!("did you mean `input.{name}`?"),
            (Some(near), _) => format!("did you mean `{near}`?"),
            _ => "an assertion reads nothing of its caller: declare an input, and pass the value where it is used"
                .to_owned(),
        };
        Some(outside(message, help, 0))
    }
}

fn outside(message: String, help: String, at_segment: usize) -> Unresolved {
    let label = "not known here".to_owned();
    Unresolved { code: "expr.unknown_variable", message, label, help: Some(help), at_segment }
}

/// `stop` inside of an assertion: passed, and the jump behind it leads out.
struct Leaves;

impl Plain for Leaves {
    fn check(&self, _: &mut Exchange) -> Verdict {
        Verdict::Passed
    }
}
