//! What a built-in assertion says about itself, and the glue from its parameters to its step.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::compile::Compile;
use crate::compile::steps::Step;
use crate::engine::program::{Op, Plain, Routes, Waits};
use crate::engine::value::{Facts, Type};

/// The group an assertion belongs to in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    Access,
    Tokens,
    Messages,
    Traffic,
    Threats,
    Logic,
    Routing,
    Records,
}

impl Category {
    /// The heading of the reference.
    pub fn word(self) -> &'static str {
        match self {
            Category::Access => "Access",
            Category::Tokens => "Tokens",
            Category::Messages => "Messages",
            Category::Traffic => "Traffic",
            Category::Threats => "Threats",
            Category::Logic => "Logic",
            Category::Routing => "Routing",
            Category::Records => "Records",
        }
    }
}

/// A variable that an assertion sets, for the reference.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// `root.member`, such as `hash.value`.
    pub name: &'static str,
    pub ty: Type,
    /// It may be absent after the step passed.
    pub absent: bool,
    pub doc: &'static str,
}

/// A fault code of an assertion, for the reference and `gatewright explain`.
#[derive(Clone, Copy, Debug)]
pub struct FaultDoc {
    /// The whole code, such as `authorize.group`.
    pub code: &'static str,
    pub status: u16,
    /// What it means and what to do about it.
    pub doc: &'static str,
}

/// A tested example: documents with a `tests:` of their own, run by the suite.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    pub title: &'static str,
    pub yaml: &'static str,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The next step, where it passes.
    Never,
    /// Nothing: it answers, raises or stops.
    Always,
}

/// The declaration of a built-in assertion.
pub struct Kind {
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    pub category: Category,
    /// The parameter that a bare scalar or list sets.
    pub main: Option<&'static str>,
    /// Keys with steps that may stand beside it.
    pub blocks: &'static [&'static str],
    pub ends: Ends,
    /// It may stand in `finally`: it never waits, denies or answers.
    pub in_finally: bool,
    /// What it does with bodies, for the reference.
    pub bodies: &'static str,
    pub sets: &'static [Output],
    pub faults: &'static [FaultDoc],
    pub examples: &'static [Example],
    pub compile: fn(&Step<'_>, &mut Compile<'_>) -> Option<Compiled>,
    pub schema: fn() -> schemars::Schema,
}

impl Kind {
    /// Where an entry starts: fill in what differs.
    pub const fn of<A: Assertion>(name: &'static str, summary: &'static str, category: Category) -> Kind {
        Kind {
            name,
            summary,
            category,
            main: None,
            blocks: &[],
            ends: Ends::Never,
            in_finally: false,
            bodies: "none",
            sets: &[],
            faults: &[],
            examples: &[],
            compile: compile::<A>,
            schema: schema::<A>,
        }
    }

    /// Whether it is about the request itself and its answer, and no call beside it.
    pub fn is_of_request(&self) -> bool {
        self.category == Category::Routing && self.name != "call_http"
    }
}

/// The parameters of an assertion, which compile themselves to a step.
pub trait Assertion: DeserializeOwned + JsonSchema {
    /// Resolves everything. `None` when something was wrong, which was reported.
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled>;
}

fn compile<A: Assertion>(step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
    step.parameters::<A>(cx)?.compile(step, cx)
}

fn schema<A: Assertion>() -> schemars::Schema {
    schemars::schema_for!(A)
}

/// What a step becomes.
pub enum Compiled {
    Plain(Box<dyn Plain>),
    Waits(Box<dyn Waits>),
    Route(Box<dyn Routes>),
    Ops(Vec<Op>),
}

impl Compiled {
    /// A step that never waits.
    pub fn plain(step: impl Plain + 'static) -> Option<Compiled> {
        Some(Compiled::Plain(Box::new(step)))
    }

    /// A step that may wait.
    pub fn waits(step: impl Waits + 'static) -> Option<Compiled> {
        Some(Compiled::Waits(Box::new(step)))
    }
}

impl Output {
    /// What the compiler knows of it, as a value of the policy.
    pub fn facts(&self) -> Facts {
        Facts { absent: self.absent, ..Facts::policy(self.ty) }
    }
}
