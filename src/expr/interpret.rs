//! Full expressions and scripts: what the native form cannot take, run by Rhai.
//!
//! Rhai parses, keeps locals, calls closures and walks statements. Everything that computes is replaced, when the
//! policy loads, by a plan of our own (`plan.rs`): variables are resolved reads, operators and functions are the same
//! Rust code as natively. So an interpreted text means what a native one means, and the two are tested against each
//! other.
//!
//! Most texts go straight through, and those need no Rhai while a request runs (`straight.rs`).
//!
//! A run is pure: it reads values that it is lent, makes a result, and can reach nothing else.

mod calls;
mod chains;
mod engine;
mod errors;
mod lists;
mod lower;
mod nodes;
mod plan;
mod run;
mod source;
mod straight;
mod value;

use std::fmt;

use http::StatusCode;
use rhai::{AST, Dynamic, Position, Scope as Locals, Stmt};

pub use self::engine::{CALLS_MAX, DEPTH_MAX, FUNCTION_DEPTH_MAX, FUNCTIONS_MAX, TEXT_MAX, VARIABLES_MAX};
pub use self::lists::LIST_MAX;
pub use self::lower::Assigned;
use self::lower::{Form, Known, Lower, OUT, nothing_read};
pub use self::nodes::CALL_BYTES_MAX;
use self::plan::{Input, Method, PUSH};
use self::run::{Draws, Lent, Stop};
use self::source::Source;
use self::straight::Straight;
use self::value::{Own, of_json, of_val, step};
use crate::engine::read::{Budget, Read, Reader};
use crate::engine::value::{Facts, Origin, Text, Val, Value};
use crate::expr::{Error, Scope, fault_by};
use crate::fault::Fault;

/// Longest text of a script, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 64 * 1024;

/// Names of the methods that only interpreted texts have.
pub(super) fn is_method(name: &str) -> bool {
    Method::named(name).is_some() || name == PUSH
}

/// A compiled text.
pub struct Interpreted {
    ast: AST,
    /// The same without Rhai, where that can be.
    straight: Option<Straight>,
    /// Names of the results that it may set.
    sets: Box<[Text]>,
    inputs: Box<[Input]>,
    random: bool,
    /// Codes of its denials and failures, and where they stand.
    pub codes: Vec<(String, std::ops::Range<usize>)>,
    /// What a script puts into its results.
    pub results: Vec<Assigned>,
    /// Of everything that it reads, mixed; the type is that of its value.
    pub facts: Facts,
}

/// How a script ended.
#[derive(Debug)]
pub enum Ending {
    /// It ran to its end, with this value and what it has set of each declared result.
    Value(Value, Vec<Option<Value>>),
    Denied {
        code: String,
        status: u16,
        text: Option<String>,
    },
    Failed {
        code: String,
        detail: String,
    },
    /// A bound was reached: which one.
    Limit(&'static str),
    Fault(Box<Fault>),
}

/// A run that ended before its end: how, and where in the text, as line and column from 1.
#[derive(Debug)]
pub struct Ended {
    pub ending: Ending,
    pub at: Option<(usize, usize)>,
}

/// Everything that a run needs, taken out of an exchange: it can go to another thread.
pub struct Loaded(Lent);

/// Compiles an expression.
pub(super) fn expression(text: &str, scope: &mut dyn Scope) -> Result<Interpreted, Vec<Error>> {
    compile(text, scope, Form::Expression)
}

/// Compiles a script that sets the results of these names.
pub fn script(text: &str, sets: &[&str], scope: &mut dyn Scope) -> Result<Interpreted, Vec<Error>> {
    if text.len() > SCRIPT_BYTES_MAX {
        let message = format!("A script has at most {SCRIPT_BYTES_MAX} bytes; this one has {}.", text.len());
        return Err(vec![
            Error::new("expr.too_long", 0..0, message, "too long").with_help("split it over several steps"),
        ]);
    }
    compile(text, scope, Form::Script(sets))
}

fn compile(text: &str, scope: &mut dyn Scope, form: Form<'_>) -> Result<Interpreted, Vec<Error>> {
    let source = Source::of(text);
    let ast = engine::engine().compile(&source.text).map_err(|error| vec![errors::of(&error, &source)])?;
    if form == Form::Expression
        && let Some(error) = not_one_value(&ast, &source)
    {
        return Err(vec![error]);
    }
    let mut lower = Lower {
        source: &source,
        scope,
        form,
        functions: Vec::new(),
        declared: Default::default(),
        parameters: Vec::new(),
        inputs: Vec::new(),
        anything: nothing_read(),
        read: nothing_read(),
        random: false,
        codes: Vec::new(),
        results: Vec::new(),
        receiver: None,
        errors: Vec::new(),
    };
    lower.names(&ast);
    let (mut lowered, mut known) = lower.tree(&ast);
    // Locals may hold whatever the text reads: once that is known, what is made of them is lowered with it.
    if lower.errors.is_empty() && lower.read != lower.anything {
        lower.anything = lower.read;
        (lowered, known) = lower.tree(&ast);
    }
    if !lower.errors.is_empty() {
        let mut errors: Vec<Error> = Vec::new();
        for error in lower.errors {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        errors.sort_by_key(|error| error.at.start);
        return Err(errors);
    }
    let facts = Facts { ty: known.facts.ty, absent: known.facts.absent, ..lower.read };
    let Lower { inputs, random, codes, results, .. } = lower;
    let sets: Box<[Text]> = match form {
        Form::Script(sets) => sets.iter().map(|name| Text::from(*name)).collect(),
        Form::Expression => Box::default(),
    };
    let straight = Straight::of(&lowered, &inputs, &sets, source.text.len());
    Ok(Interpreted { ast: lowered, straight, sets, inputs: inputs.into(), random, codes, results, facts })
}

/// An expression is one value: statements stand in a block of their own.
fn not_one_value(ast: &AST, source: &Source<'_>) -> Option<Error> {
    let error = |at: Position| {
        let message = "An expression is one value; here are statements.";
        let error = Error::new("expr.statements", source.range(at), message, "a statement");
        Some(error.with_help("put them into braces: `{ let a = 1; a + 1 }`, or into a `script` step"))
    };
    match ast.statements() {
        [Stmt::Expr(_) | Stmt::FnCall(..) | Stmt::Block(_) | Stmt::If(..) | Stmt::Switch(..)] => None,
        [first] => error(first.position()),
        [_, second, ..] => error(second.position()),
        [] => error(Position::new(1, 1)),
    }
}

impl Lower<'_> {
    /// Collects what the text declares, before anything is looked up.
    fn names(&mut self, ast: &AST) {
        let mut captured: Vec<rhai::ImmutableString> = Vec::new();
        let mut declared: Vec<(rhai::ImmutableString, Position)> = Vec::new();
        let mut indexed: Vec<rhai::ImmutableString> = Vec::new();
        ast.walk(&mut |path| {
            match path.last() {
                Some(rhai::ASTNode::Stmt(Stmt::Var(var, ..))) => declared.push((var.0.name.clone(), var.0.pos)),
                Some(rhai::ASTNode::Stmt(Stmt::For(walk, _))) => {
                    declared.push((walk.0.name.clone(), walk.0.pos));
                    declared.extend(walk.1.iter().map(|counter| (counter.name.clone(), counter.pos)));
                }
                Some(rhai::ASTNode::Stmt(Stmt::Share(names))) => {
                    captured.extend(names.iter().map(|(name, _)| name.name.clone()));
                }
                Some(rhai::ASTNode::Expr(rhai::Expr::Variable(variable, short, _)))
                    if short.is_some() || variable.0.is_some() =>
                {
                    indexed.push(variable.1.clone());
                }
                _ => {}
            }
            true
        });
        for (_, _, name, _, function) in ast.shared_lib().iter_script_fn_info() {
            self.functions.push((name.into(), function.params.len()));
            let parameters = function.params.iter().filter(|name| !captured.contains(name) || indexed.contains(name));
            declared.extend(parameters.map(|name| (name.clone(), Position::NONE)));
        }
        for (name, at) in declared {
            if self.declared.insert(name.clone()) && at.is_none() {
                self.parameter(&name);
            }
        }
        if self.form != Form::Expression {
            self.declared.insert(OUT.into());
        }
    }

    /// A parameter takes no name of the policy's; Rhai does not keep where it stands.
    fn parameter(&mut self, name: &str) {
        let found = self.source.text.find(&format!("|{name}")).or_else(|| self.source.text.find(name));
        let before = self.source.text.get(..found.unwrap_or(0)).unwrap_or_default();
        let line = before.lines().count().max(1);
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        let bar = usize::from(self.source.text.get(found.unwrap_or(0)..).is_some_and(|rest| rest.starts_with('|')));
        let at = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        self.declares(name, Position::new(at(line), at(column + bar)));
    }

    /// Lowers a copy of the whole tree.
    fn tree(&mut self, ast: &AST) -> (AST, Known) {
        self.inputs.clear();
        self.codes.clear();
        self.results.clear();
        let mut functions = rhai::Module::new();
        for (_, _, _, _, function) in ast.shared_lib().iter_script_fn_info() {
            self.parameters = function.params.to_vec();
            let mut body = Vec::new();
            let mut alone = rhai::Module::new();
            alone.set_script_fn((**function).clone());
            AST::new([], alone).walk(&mut |path| {
                if let [rhai::ASTNode::Stmt(statement)] = path {
                    body.push((*statement).clone());
                }
                true
            });
            self.statements(&mut body);
            let at = function.body.start_position();
            let body = rhai::Expr::Stmt(Box::new(rhai::StmtBlock::new(body, at, at)));
            if let Some(lowered) = engine::body_of(body) {
                functions.set_script_fn(rhai::ScriptFuncDef { body: lowered.body, ..(**function).clone() });
            }
        }
        self.parameters.clear();
        let mut statements = ast.statements().to_vec();
        let known = self.statements(&mut statements);
        (AST::new(statements, functions), known)
    }
}

impl Interpreted {
    /// The variables that it reads, each once.
    pub fn reads(&self) -> impl Iterator<Item = &Read> {
        self.inputs.iter().map(|input| &input.read)
    }

    /// Takes everything that a run reads out of an exchange. What cannot be read is a fault only once it is used.
    pub fn load<R: Reader + ?Sized>(&self, on: &R, budget: Budget) -> Loaded {
        let inputs = self.inputs.iter().map(|input| load(input, on)).collect();
        Loaded(Lent { inputs, now: on.now(), seed: self.seed(on), budget })
    }

    fn seed<R: Reader + ?Sized>(&self, on: &R) -> Option<[u8; 32]> {
        self.random.then(|| {
            let mut seed = [0; 32];
            on.random(&mut seed);
            seed
        })
    }

    /// Whether it runs without Rhai.
    #[cfg(test)]
    pub(super) fn is_straight(&self) -> bool {
        self.straight.is_some()
    }

    /// The same text, run by Rhai whatever it is: tests compare the two.
    #[cfg(test)]
    pub(super) fn interpreted(self) -> Interpreted {
        Interpreted { straight: None, ..self }
    }

    /// Runs it over an exchange.
    pub fn run_on<R: Reader + ?Sized>(&self, on: &R, budget: Budget) -> Ended {
        // One that could use up its operations is counted exactly.
        let straight = self.straight.as_ref().filter(|straight| straight.operations <= budget.operations);
        let ended = straight.and_then(|straight| straight.run(on, &self.inputs, budget, self.seed(on).map(Draws::of)));
        ended.unwrap_or_else(|| self.run(self.load(on, budget)))
    }

    /// The value of an expression.
    pub(super) fn eval<R: Reader + ?Sized>(&self, on: &R) -> Result<Val<'static>, Box<Fault>> {
        let ended = self.run_on(on, on.budget());
        match ended.ending {
            Ending::Value(value, _) => Ok(value.into_val()),
            Ending::Fault(fault) => Err(fault),
            Ending::Limit(why) => Err(fault_by(Origin::Policy, "expression.limit", why)),
            Ending::Denied { .. } | Ending::Failed { .. } => {
                Err(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "expression.error", "an expression cannot deny"))
            }
        }
    }

    /// Runs it in Rhai.
    pub fn run(&self, loaded: Loaded) -> Ended {
        let mut locals = Locals::new();
        let sets = !self.sets.is_empty();
        if sets {
            locals.push(OUT, rhai::Map::new());
        }
        let value = run::with(loaded.0, || engine::engine().eval_ast_with_scope::<Dynamic>(&mut locals, &self.ast));
        match value {
            Ok(value) => self.value(value, if sets { locals.remove::<Dynamic>(OUT) } else { None }),
            Err(stopped) => stopped_at(stopped),
        }
    }

    fn value(&self, value: Dynamic, out: Option<Dynamic>) -> Ended {
        let no_value = |what: &str| {
            let fault = fault_by(Origin::Policy, "expression.type", format!("{what} is no value of the language"));
            Ended { ending: Ending::Fault(fault), at: None }
        };
        let Some(value) = Own::of(value).into_value() else { return no_value("the result") };
        let mut results = Vec::with_capacity(self.sets.len());
        let mut out = match out.map(Own::of) {
            Some(Own::Map(map)) => map,
            _ => rhai::Map::new(),
        };
        for name in &self.sets {
            results.push(match out.remove(&**name).map(|set| Own::of(set).into_value()) {
                Some(Some(set)) => Some(set),
                Some(None) => return no_value(&format!("out.{name}")),
                None => None,
            });
        }
        Ended { ending: Ending::Value(value, results), at: None }
    }
}

fn stopped_at((stop, at): (Stop, Position)) -> Ended {
    let ending = match stop {
        Stop::Fault(fault) => Ending::Fault(fault),
        Stop::Limit(why) => Ending::Limit(why),
        Stop::Denied { code, status, text } => Ending::Denied { code, status, text },
        Stop::Failed { code, detail } => Ending::Failed { code, detail },
    };
    Ended { ending, at: at.line().map(|line| (line, at.position().unwrap_or(1))) }
}

fn load<R: Reader + ?Sized>(input: &Input, on: &R) -> Result<Dynamic, Box<Fault>> {
    match on.shared(&input.read)? {
        Some(Value::Json(json)) => Ok(of_json(json, &input.members)),
        Some(value) => Ok(of_val(input.members.iter().fold(value.view(), step))),
        None => Ok(of_val(input.members.iter().fold(on.read(&input.read)?, step))),
    }
}

impl fmt::Debug for Interpreted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Interpreted")
            .field("inputs", &self.inputs)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

const _: () = assert!(TEXT_MAX <= super::TEXT_BYTES_MAX);
