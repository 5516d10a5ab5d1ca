//! From the lowered tree to a straight one; nothing where the text repeats or changes values in place.

use std::sync::Arc;

use rhai::{AST, ASTFlags, Expr, Position, Stmt};

use crate::engine::value::{Text, Val, Value};
use crate::expr::interpret::engine::{TEXT_MAX, VARIABLES_MAX};
use crate::expr::interpret::lower::OUT;
use crate::expr::interpret::plan::{Action, Carried, Input, Link, Plan};
use crate::expr::interpret::straight::split::Split;
use crate::expr::interpret::straight::{Node, Statement, Straight};
use crate::expr::interpret::value::Own;
use crate::expr::narrow::Member;

/// Deepest nesting: deeper ones, such as long chains of calls, stay with Rhai.
const DEPTH_MAX: usize = 64;
/// Rhai counts fewer operations for a byte of a text: a statement, an expression and a plan around it stand for one at
/// most, and an assignment has one more.
const OPERATIONS_PER_BYTE: u64 = 4;
/// Operations that no byte stands for.
const OPERATIONS_BASE: u64 = 64;

/// One pass.
struct Translate<'a> {
    inputs: &'a [Input],
    sets: &'a [Text],
    /// Locals in sight, the newest last.
    names: Vec<Local>,
    /// Cells of the inputs that are read, by their number.
    read: Vec<Option<u16>>,
    locals: u16,
    cells: u16,
    clock: bool,
    depth: usize,
}

#[derive(Clone)]
struct Local {
    name: Text,
    number: u16,
    constant: bool,
}

impl Straight {
    /// Translates a lowered text of so many bytes.
    pub fn of(lowered: &AST, inputs: &[Input], sets: &[Text], bytes: usize) -> Option<Straight> {
        if lowered.has_functions() {
            return None;
        }
        let mut translate = Translate {
            inputs,
            sets,
            names: Vec::new(),
            read: vec![None; inputs.len()],
            locals: u16::try_from(sets.len()).ok()?,
            cells: 0,
            clock: false,
            depth: 0,
        };
        let body = translate.statements(lowered.statements())?;
        // Every value that is put somewhere is kept to the end: as many as Rhai lets a text have locals at a time.
        let read = translate.read.iter().flatten().count();
        let puts = usize::from(translate.cells).saturating_sub(read);
        (puts < VARIABLES_MAX - 1).then_some(Straight {
            body,
            cells: translate.cells.into(),
            locals: translate.locals.into(),
            results: sets.len(),
            operations: OPERATIONS_BASE + OPERATIONS_PER_BYTE * bytes as u64,
            clock: translate.clock,
        })
    }
}

impl Translate<'_> {
    fn cell(&mut self) -> Option<u16> {
        let cell = self.cells;
        self.cells = cell.checked_add(1)?;
        Some(cell)
    }

    fn statements(&mut self, block: &[Stmt]) -> Option<Box<[Statement]>> {
        block.iter().map(|statement| self.statement(statement)).collect()
    }

    /// Statements whose locals end with them.
    fn block(&mut self, block: &[Stmt]) -> Option<Box<[Statement]>> {
        let outer = self.names.len();
        let inner = self.statements(block);
        self.names.truncate(outer);
        inner
    }

    fn statement(&mut self, statement: &Stmt) -> Option<Statement> {
        Some(match statement {
            Stmt::Noop(_) => Statement::Nothing,
            Stmt::Expr(expr) => Statement::Value(self.expr(expr)?),
            Stmt::Block(block) => Statement::Value(Node::Block(self.nested(|own| own.block(block.statements()))?)),
            Stmt::If(flow, _) => {
                let test = self.expr(&flow.expr)?;
                let (then, other) = self
                    .nested(|own| Some((own.block(flow.body.statements())?, own.block(flow.branch.statements())?)))?;
                Statement::If { test, then, other }
            }
            Stmt::Var(var, flags, _) => {
                let value = self.expr(&var.1)?;
                let local = Local {
                    name: var.0.name.as_str().into(),
                    number: self.locals,
                    constant: flags.contains(ASTFlags::CONSTANT),
                };
                self.locals = self.locals.checked_add(1)?;
                match var.2 {
                    // The same name once more in the same block takes the place of the first.
                    Some(back) => {
                        let place = self.names.len().checked_sub(back.get())?;
                        *self.names.get_mut(place)? = local.clone();
                    }
                    None => self.names.push(local.clone()),
                }
                Statement::Put { local: local.number, cell: self.cell()?, value, result: None }
            }
            Stmt::Assignment(parts) => {
                if parts.0.is_op_assignment() {
                    return None;
                }
                let value = self.expr(&parts.1.rhs)?;
                let (local, result) = self.target(&parts.1.lhs, parts.0.position())?;
                Statement::Put { local, cell: self.cell()?, value, result }
            }
            Stmt::Return(value, flags, _) if flags.is_empty() => Statement::Return(match value {
                Some(value) => Some(self.expr(value)?),
                None => None,
            }),
            _ => return None,
        })
    }

    /// What stands left of a `=`: a local, or a whole result.
    fn target(&self, expr: &Expr, at: Position) -> Option<(u16, Option<Position>)> {
        match expr {
            Expr::Variable(variable, ..) => {
                let local = self.local(&variable.1)?;
                (!local.constant).then_some((local.number, None))
            }
            Expr::Dot(parts, ..) => match (&parts.lhs, &parts.rhs) {
                (Expr::Variable(variable, ..), Expr::Property(property, _)) if variable.1 == OUT => {
                    Some((self.result(&property.2)?, Some(at)))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.names.iter().rev().find(|local| *local.name == *name)
    }

    fn result(&self, name: &str) -> Option<u16> {
        u16::try_from(self.sets.iter().position(|set| **set == *name)?).ok()
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let inner = inner(self);
        self.depth -= 1;
        inner
    }

    fn all(&mut self, parts: &[Expr]) -> Option<Box<[Node]>> {
        parts.iter().map(|part| self.expr(part)).collect()
    }

    fn expr(&mut self, expr: &Expr) -> Option<Node> {
        self.nested(|own| own.node(expr))
    }

    fn node(&mut self, expr: &Expr) -> Option<Node> {
        Some(match expr {
            Expr::BoolConstant(bool, _) => Node::Const(Value::Bool(*bool)),
            Expr::IntegerConstant(int, _) => Node::Const(Value::Int(*int)),
            Expr::FloatConstant(float, _) => Node::Const(Value::Float(**float)),
            Expr::StringConstant(text, _) => Node::Const(Value::text(text.as_str())),
            Expr::Unit(_) => Node::Const(Value::Absent),
            Expr::Variable(variable, ..) => Node::Local(self.local(&variable.1)?.number),
            Expr::Stmt(block) => Node::Block(self.block(block.statements())?),
            Expr::Coalesce(parts, _) => Node::First(self.all(parts)?),
            Expr::Custom(custom, _) => {
                let plan = custom.state.read_lock::<Carried>()?.0.clone();
                match &plan.action {
                    Action::List(_) | Action::Elements | Action::Range { .. } => return None,
                    Action::Const(value) => constant(Own::of(value.clone()).into_value()?)?,
                    Action::Input(number) => {
                        let input = self.inputs.get(*number)?.clone();
                        let cell = match self.read.get(*number)? {
                            Some(cell) => *cell,
                            None => self.cell()?,
                        };
                        *self.read.get_mut(*number)? = Some(cell);
                        Node::Input { cell, input, at: plan.at }
                    }
                    Action::Chain(links) => {
                        let (base, keys) = custom.inputs.split_first()?;
                        let (skip, base) = self.base(base, links)?;
                        if skip == links.len() {
                            return Some(base);
                        }
                        let (base, keys) = (Box::new(base), self.all(keys)?);
                        Node::Chain { plan, skip, base, keys }
                    }
                    action => {
                        self.clock |= matches!(action, Action::Now);
                        let inputs = self.all(&custom.inputs)?;
                        work(plan, inputs)
                    }
                }
            }
            _ => return None,
        })
    }

    /// The base of a chain, and how many links it takes: that of `out.NAME` is the result itself.
    fn base(&mut self, base: &Expr, links: &[Link]) -> Option<(usize, Node)> {
        match (base, links.first()) {
            (Expr::Variable(variable, ..), Some(Link::Member(Member::Key(name))))
                if variable.1 == OUT && self.local(OUT).is_none() =>
            {
                Some((1, Node::Local(self.result(name)?)))
            }
            (base, Some(Link::Member(Member::Position(position)))) => Some(match Split::of(self.expr(base)?) {
                Ok(split) => (1, Node::Part(split, *position)),
                Err(base) => (0, base),
            }),
            _ => Some((0, self.expr(base)?)),
        }
    }
}

/// An operation over its inputs.
fn work(plan: Arc<Plan>, inputs: Box<[Node]>) -> Node {
    let Action::In { not } = plan.action else { return Node::Work(plan, inputs) };
    // A marked text is looked for without ever ending early.
    if plan.marked {
        return Node::Work(plan, inputs);
    }
    match <[Node; 2]>::try_from(inputs.into_vec()) {
        Ok([needle, hay]) => match Split::of(hay) {
            Ok(split) => Node::Among { plan, not, needle: Box::new(needle), split },
            Err(hay) => Node::Work(plan, [needle, hay].into()),
        },
        Err(inputs) => Node::Work(plan, inputs.into()),
    }
}

/// A value that is known at load; Rhai refuses one that is too large when it is used.
fn constant(value: Value) -> Option<Node> {
    match value.view() {
        Val::Text(text) if text.len() > TEXT_MAX => None,
        _ => Some(Node::Const(value)),
    }
}
