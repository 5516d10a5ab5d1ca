//! The entry: a text becomes a [`Compiled`] expression, or all that is wrong with it.

use std::fmt;

use crate::engine::read::{Read, Reader};
use crate::engine::value::{Facts, Type, Val, Value, with_article};
use crate::expr::check::{Check, may_be_absent};
use crate::expr::interpret::Interpreted;
use crate::expr::narrow::{Present, proves};
use crate::expr::node::Node;
use crate::expr::parse::parse;
use crate::expr::words::NEEDS_INTERPRETER;
use crate::expr::{Error, Kinds, Scope, fault_by, interpret};
use crate::fault::Fault;

/// An expression that is ready to be evaluated.
pub struct Compiled {
    node: Node,
    pub facts: Facts,
    /// What is surely there where this is true: variables and members of their values.
    pub proves: Vec<Present>,
    /// Every read in it, each once.
    pub reads: Vec<Read>,
    /// The answer of a condition that is made of literals alone and so never changes.
    pub constant: Option<bool>,
}

/// Compiles an expression of any type; its value may be absent (`facts.absent`).
pub fn compile(source: &str, scope: &mut dyn Scope) -> Result<Compiled, Vec<Error>> {
    match native(source, scope) {
        Err(errors) if errors.iter().any(|error| needs_interpreter(error, source)) => {
            interpret::expression(source, scope).and_then(of_interpreted)
        }
        compiled => compiled,
    }
}

/// Compiles an expression for Rhai, even where it could be native: tests compare the two.
#[cfg(test)]
pub(super) fn compile_interpreted(source: &str, scope: &mut dyn Scope) -> Result<Compiled, Vec<Error>> {
    interpret::expression(source, scope).map(Interpreted::interpreted).and_then(of_interpreted)
}

fn of_interpreted(text: Interpreted) -> Result<Compiled, Vec<Error>> {
    let node = Node::Interpreted(Box::new(text));
    let mut reads = Vec::new();
    node.reads(&mut reads);
    let Node::Interpreted(text) = &node else { return Err(Vec::new()) };
    Ok(Compiled { proves: Vec::new(), reads, constant: None, facts: text.facts, node })
}

/// Whether the interpreter takes what the native form has refused.
fn needs_interpreter(error: &Error, source: &str) -> bool {
    match error.code {
        NEEDS_INTERPRETER => true,
        "expr.unknown_function" => source.get(error.at.clone()).is_some_and(interpret::is_method),
        _ => false,
    }
}

fn native(source: &str, scope: &mut dyn Scope) -> Result<Compiled, Vec<Error>> {
    let expr = parse(source).map_err(|error| vec![error])?;
    let mut check = Check::new(source, scope);
    let Some(typed) = check.lower(&expr) else { return Err(check.errors) };
    let mut proved = Vec::new();
    proves(&typed.node, true, &mut proved);
    let mut reads = Vec::new();
    typed.node.reads(&mut reads);
    let constant = match &typed.node {
        Node::Const(Value::Bool(bool)) if typed.literal => Some(*bool),
        _ => None,
    };
    Ok(Compiled { proves: proved, reads, constant, facts: typed.facts, node: typed.node })
}

/// Compiles a condition: a bool that is there.
pub fn compile_condition(source: &str, scope: &mut dyn Scope) -> Result<Compiled, Vec<Error>> {
    let compiled = compile(source, scope)?;
    let Facts { ty, absent, .. } = compiled.facts;
    let start = source.len() - source.trim_start().len();
    let at = start..source.trim_end().len().max(start);
    if !Kinds::of(ty).meets(Kinds::BOOL) {
        let message = format!("A condition is a bool; this is {}.", with_article(ty.word()));
        let help = match ty {
            Type::Text => "compare it (`x == 'a'`) or ask whether it is there (`exists(x)`)",
            _ => "compare it with something, such as `x > 0`, or ask `exists(x)`",
        };
        return Err(vec![Error::new("expr.not_bool", at, message, ty.word()).with_help(help)]);
    }
    if absent {
        return Err(vec![may_be_absent(source, at, Type::Bool, false)]);
    }
    Ok(compiled)
}

impl Compiled {
    /// The value over an exchange; it borrows from the exchange and from this expression where it can.
    pub fn eval<'x, R: Reader + ?Sized>(&'x self, on: &'x R) -> Result<Val<'x>, Box<Fault>> {
        self.node.eval(on)
    }

    /// The answer of a condition. A value that is no bool is a fault `expression.type`, never false.
    pub fn holds<R: Reader + ?Sized>(&self, on: &R) -> Result<bool, Box<Fault>> {
        self.node.holds(on, self.facts.origin)
    }

    /// The value, where it is known at load: literals, `env.NAME`, `secret`, `list` and what is made of them.
    pub fn known(&self) -> Option<&Value> {
        match &self.node {
            Node::Const(value) => Some(value),
            _ => None,
        }
    }

    /// The variable, where the expression is exactly one.
    pub fn as_read(&self) -> Option<&Read> {
        match &self.node {
            Node::Read(read) => Some(read),
            _ => None,
        }
    }
}

/// Constants may be secrets: only what the compiler knows is printed.
impl fmt::Debug for Compiled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Compiled")
            .field("facts", &self.facts)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

/// What constants are evaluated over: there is nothing to read.
pub(super) struct Nothing;

impl Reader for Nothing {
    fn read<'x>(&'x self, _: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        Err(fault_by(crate::engine::value::Origin::Policy, "expression.type", "a constant reads no variables"))
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn random(&self, into: &mut [u8]) {
        into.fill(0);
    }
}
