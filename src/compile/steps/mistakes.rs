//! All mistakes of a step at once: what an assertion says of its parameters, and what it would say without those that
//! are wrong.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::Step;
use crate::compile::context::Compile;
use crate::compile::flow::{Flow, Happened};
use crate::compile::kind::Compiled;
use crate::engine::program::Op;
use crate::engine::value::Text;
use crate::source::{Diagnostic, Diagnostics, Node, NodeValue, past_mistakes, read_remains};

/// The steps inside of the step at hand: they are compiled once, however often the step itself is judged, because
/// otherwise those at the bottom would be judged twice for every level above them.
#[derive(Default)]
pub(in crate::compile) struct Inner {
    lists: Vec<List>,
    /// What was said of them.
    said: Diagnostics,
}

/// Steps that were compiled.
struct List {
    /// The beginning of their index paths.
    path: String,
    after: Flow,
    /// Not all of them have compiled.
    incomplete: bool,
}

impl Inner {
    /// Notes that steps were compiled, and what was said of them reported.
    pub fn remember(&mut self, path: &str, after: Flow) {
        self.lists.push(List { path: path.to_owned(), after, incomplete: false });
    }

    /// Whether steps have been compiled.
    pub fn is_known(&self) -> bool {
        !self.lists.is_empty()
    }
}

impl<'s> Step<'s> {
    /// Its parameters; everything wrong with them is reported. With mistakes it is what remains without them, so
    /// that those in other parameters are found too.
    pub fn parameters<T: DeserializeOwned + JsonSchema>(&self, cx: &mut Compile<'_>) -> Option<T> {
        let what = format!("the parameters of `{}`", self.kind.name);
        let none = Node::new(self.span, NodeValue::Map(Vec::new()));
        let node = self.params.filter(|node| !node.is_null()).unwrap_or(&none);
        let mut found = Diagnostics::new();
        let remains = read_remains(node, self.kind.main, &what, &mut found);
        cx.mangled = Some(found).filter(Diagnostics::has_errors);
        remains
    }

    /// Whether a diagnostic only follows from parameters that were left out because they are wrong.
    fn follows(&self, one: &Diagnostic) -> bool {
        let params = self.params.map_or(self.span, Node::span);
        let lacks = matches!(one.code, "policy.missing_parameter" | "policy.empty_list");
        one.span.is_none_or(|span| span == self.span || span == params || lacks && params.contains(span))
    }

    /// Names of the variables that it may set.
    fn may_set(&self) -> Vec<Text> {
        let roots = self.kind.sets.iter().filter_map(|output| output.name.split('.').next());
        let mut names: Vec<Text> = roots.chain([self.word]).chain(self.renamed()).map(Text::from).collect();
        let written = match self.kind.name {
            "set" => self.params,
            _ => self.params.and_then(|params| params.get("sets").or_else(|| params.get("collect"))),
        };
        let entries = written.and_then(Node::as_map).unwrap_or_default();
        names.extend(entries.iter().map(|entry| Text::from(entry.key.as_str())));
        names
    }

    /// The same step with other parameters.
    fn with<'n>(&self, params: &'n Node) -> Step<'n>
    where
        's: 'n,
    {
        let (name, renamed, path) = (self.name.clone(), self.renamed.clone(), self.path.clone());
        Step { params: Some(params), name, renamed, path, ..*self }
    }
}

impl Compile<'_> {
    /// Lets the assertion compile itself, past its mistakes.
    pub(super) fn compile_kind(&mut self, step: &Step<'_>) -> Option<Compiled> {
        let said = std::mem::take(self.diags);
        let outer = self.inner.replace(Inner::default());
        let (compiled, mut found) = match step.params {
            None => self.attempt(step),
            Some(params) => {
                let mut found = Diagnostics::new();
                let before = (self.flow.clone(), self.poured);
                let mut after = None;
                let compiled = past_mistakes(
                    params,
                    &mut found,
                    |one| step.follows(one) || one.code == "expr.unknown_result",
                    |params, diags| {
                        if after.is_some() {
                            (self.flow, self.poured) = before.clone();
                        }
                        let (compiled, found) = self.attempt(&step.with(params));
                        if found.has_errors() && after.is_none() {
                            after = Some((self.flow.clone(), self.poured));
                        }
                        diags.append(found);
                        compiled
                    },
                );
                // What the later steps find is what the first attempt has left.
                if let Some(after) = after {
                    (self.flow, self.poured) = after;
                }
                (compiled, found)
            }
        };
        *self.diags = said;
        let inner = std::mem::replace(&mut self.inner, outer).unwrap_or_default();
        if found.has_errors() {
            self.settle(&inner);
        }
        found.append(inner.said);
        if compiled.is_none() || found.has_errors() {
            self.incomplete = true;
            self.unsettled.extend(step.may_set());
        }
        self.diags.append(found);
        let sends = step.kind.sets.iter().any(|output| output.name.starts_with("response."));
        if compiled.is_none() && (sends || step.kind.name == "route") {
            self.flow.routed = Happened::Always;
        }
        compiled
    }

    /// Compiles steps inside of the step at hand, where they have not been; else the state is what they had left.
    pub(in crate::compile) fn once(&mut self, path: &str, compile: impl FnOnce(&mut Self) -> Vec<Op>) -> Vec<Op> {
        let Some(mut inner) = self.inner.take() else { return compile(self) };
        let mut ops = Vec::new();
        if let Some(known) = inner.lists.iter().find(|list| list.path == path) {
            self.flow = known.after.clone();
            self.incomplete |= known.incomplete;
        } else {
            let said = std::mem::take(self.diags);
            let incomplete = std::mem::take(&mut self.incomplete);
            ops = compile(self);
            inner.said.append(std::mem::replace(self.diags, said));
            let after = self.flow.clone();
            inner.lists.push(List { path: path.to_owned(), after, incomplete: self.incomplete });
            self.incomplete |= incomplete;
        }
        self.inner = Some(inner);
        ops
    }

    /// A step that did not compile may lose what those inside of it have set: that it is missing is not reported.
    fn settle(&mut self, inner: &Inner) {
        for list in &inner.lists {
            let lost = list.after.roots.keys().filter(|name| !self.flow.roots.contains_key(*name));
            self.unsettled.extend(lost.cloned());
            if self.flow.routed == Happened::Never {
                self.flow.routed = list.after.routed;
            }
        }
    }

    /// Compiles the assertion once. What follows only from mistakes that are reported already is not.
    fn attempt(&mut self, step: &Step<'_>) -> (Option<Compiled>, Diagnostics) {
        let said = std::mem::take(self.diags);
        let outer = self.mangled.take();
        let compiled = (step.kind.compile)(step, self);
        let mangled = std::mem::replace(&mut self.mangled, outer);
        let mut found = std::mem::replace(self.diags, said);
        if let Some(wrong) = mangled {
            found.retain(|one| !step.follows(one));
            found.append(wrong);
        }
        (compiled, found)
    }
}
