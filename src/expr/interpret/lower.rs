//! From Rhai's tree to ours: names to variables of the policy, operators and functions to plans.
//!
//! Rhai's parser has decided what is a statement, a local and a closure. What is left of its tree is just that;
//! everything that computes becomes a plan. All errors of a text are found in one pass.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rhai::{CustomExpr, Dynamic, Expr, ImmutableString, OpAssignment, Position, Stmt, StmtBlock};

use crate::engine::value::{Element, Facts, Mark, Origin, Type, Value, with_article};
use crate::expr::interpret::plan::{Action, Carried, Input, KEY, Plan};
use crate::expr::interpret::source::Source;
use crate::expr::{Error, Kinds, Scope, Segment};

/// What a part of a text gives, as far as it is known at load.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub facts: Facts,
    /// The value of a literal.
    pub literal: Option<Value>,
}

impl Known {
    pub fn of(facts: Facts) -> Known {
        Known { facts, literal: None }
    }

    pub fn policy(ty: Type) -> Known {
        Known::of(Facts::policy(ty))
    }

    /// Either of two.
    pub fn or(&self, other: &Known) -> Known {
        let (one, two) = (self.facts, other.facts);
        let ty = if one.ty == two.ty { one.ty } else { Type::Any };
        Known::of(Facts { ty, absent: one.absent || two.absent, ..one.mixed(two) })
    }
}

/// A value that a script puts into one of its results.
#[derive(Clone, Debug)]
pub struct Assigned {
    pub name: String,
    /// Whether it is the whole result, and not a member of it.
    pub whole: bool,
    pub facts: Facts,
    /// Where the value stands in the text.
    pub at: Range<usize>,
}

/// What kind of text it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form<'s> {
    Expression,
    /// A `script`, with the names that it sets.
    Script(&'s [&'s str]),
}

/// The variable that a script sets its results through.
pub(super) const OUT: &str = "out";

/// One pass.
pub(super) struct Lower<'a> {
    pub source: &'a Source<'a>,
    pub scope: &'a mut dyn Scope,
    pub form: Form<'a>,
    /// Names and numbers of parameters of the text's own functions.
    pub functions: Vec<(ImmutableString, usize)>,
    /// Names that the text declares anywhere.
    pub declared: BTreeSet<ImmutableString>,
    /// Parameters of the function at hand.
    pub parameters: Vec<ImmutableString>,
    pub inputs: Vec<Input>,
    /// What a local may hold: anything that the text reads.
    pub anything: Facts,
    /// Everything read so far, mixed.
    pub read: Facts,
    pub random: bool,
    /// Literal codes of `deny` and `fail`.
    pub codes: Vec<(String, Range<usize>)>,
    /// What is put into the results of a script.
    pub results: Vec<Assigned>,
    /// What is known of the `x` of `x.f()`, which is lowered already when the call is.
    pub receiver: Option<Known>,
    pub errors: Vec<Error>,
}

impl Lower<'_> {
    pub fn at(&self, position: Position) -> Range<usize> {
        self.source.range(position)
    }

    pub fn refuse(&mut self, error: Error) -> Known {
        self.errors.push(error);
        // Whatever it would have been: no second error follows from this one.
        Known::policy(Type::Any)
    }

    /// Puts a plan in the place of an expression.
    pub fn put(&self, place: &mut Expr, inputs: Vec<Expr>, action: Action, facts: Facts, at: Position) {
        let plan = Plan { action, origin: facts.origin, marked: facts.mark.is_credential(), at };
        let custom = CustomExpr {
            inputs: inputs.into_iter().collect(),
            tokens: std::iter::once(ImmutableString::from(KEY)).collect(),
            state: Dynamic::from(Carried(Arc::new(plan))),
            scope_may_be_changed: false,
            self_terminated: false,
        };
        *place = Expr::Custom(Box::new(custom), at);
    }

    /// Lowers statements; what the last one gives is the value of all.
    pub fn statements(&mut self, block: &mut [Stmt]) -> Known {
        let mut last = Known::of(Facts::policy(Type::Any).maybe());
        for statement in block {
            last = self.statement(statement);
        }
        last
    }

    fn block(&mut self, block: &mut StmtBlock) -> Known {
        self.statements(block.statements_mut())
    }

    fn statement(&mut self, statement: &mut Stmt) -> Known {
        let nothing = Known::of(Facts::policy(Type::Any).maybe());
        match statement {
            Stmt::Noop(_) => nothing,
            Stmt::Expr(expr) => self.expr(expr),
            Stmt::FnCall(call, at) => {
                let mut expr = Expr::FnCall(call.clone(), *at);
                let known = self.expr(&mut expr);
                *statement = Stmt::Expr(Box::new(expr));
                known
            }
            Stmt::Block(block) => self.block(block),
            Stmt::If(flow, _) => {
                self.truth(&mut flow.expr, "if");
                let (then, other) = (self.block(&mut flow.body), self.block(&mut flow.branch));
                then.or(&other)
            }
            Stmt::While(..) | Stmt::Do(..) | Stmt::For(..) => self.repeated(statement),
            Stmt::Var(var, ..) => {
                self.declares(&var.0.name.clone(), var.0.pos);
                self.expr(&mut var.1);
                nothing
            }
            Stmt::Assignment(parts) => self.assignment(parts),
            Stmt::Switch(parts, _) => {
                let subject = self.expr(&mut parts.0);
                self.switched(&subject, parts.0.position());
                let mut known: Option<Known> = None;
                for case in &mut parts.1.expressions {
                    if !matches!(case.lhs, Expr::BoolConstant(..)) {
                        self.truth(&mut case.lhs, "if");
                    }
                    let value = self.expr(&mut case.rhs);
                    known = Some(known.map_or(value.clone(), |known| known.or(&value)));
                }
                // Without `_` there may be no case for the value.
                let value = known.unwrap_or_else(|| nothing.clone());
                if parts.1.def_case.is_some() { value } else { value.or(&nothing) }
            }
            Stmt::Return(value, flags, _) if flags.is_empty() => {
                if let Some(value) = value {
                    self.expr(value);
                }
                self.anything()
            }
            Stmt::BreakLoop(value, ..) => {
                if let Some(value) = value {
                    self.expr(value);
                }
                nothing
            }
            Stmt::Share(_) => {
                self.share(statement);
                nothing
            }
            Stmt::TryCatch(_, at) | Stmt::Return(_, _, at) => self.no_statement("try, catch and throw", *at),
            Stmt::Import(_, at) | Stmt::Export(_, at) => self.no_statement("modules", *at),
            _ => nothing,
        }
    }

    /// Loops.
    fn repeated(&mut self, statement: &mut Stmt) -> Known {
        match statement {
            Stmt::While(flow, _) => {
                if !matches!(flow.expr, Expr::Unit(_)) {
                    self.truth(&mut flow.expr, "while");
                }
                self.block(&mut flow.body);
                self.anything()
            }
            Stmt::Do(flow, ..) => {
                self.block(&mut flow.body);
                self.truth(&mut flow.expr, "while");
                self.anything()
            }
            Stmt::For(walk, at) => {
                let list = self.expr(&mut walk.2.expr);
                if !Kinds::of(list.facts.ty).meets(Kinds::LIST) {
                    let message = format!(
                        "`for` walks through lists and ranges; this is {}.",
                        with_article(list.facts.ty.word())
                    );
                    let error = Error::new("expr.type_mismatch", self.at(*at), message, list.facts.ty.word());
                    self.refuse(error.with_help("write `for x in list`, `for x in 0..10` or `for key in keys(map)`"));
                }
                self.wrap(&mut walk.2.expr, Action::Elements, list.facts);
                self.block(&mut walk.2.body);
                self.anything()
            }
            _ => self.anything(),
        }
    }

    /// Rhai compares the subject of a `switch` by itself: another type, or nothing, would fall through in silence.
    fn switched(&mut self, subject: &Known, at: Position) {
        let Facts { ty, absent, mark, .. } = subject.facts;
        if matches!(ty, Type::Text | Type::Int | Type::Bool) && !absent && !mark.is_credential() {
            return;
        }
        let message = "`switch` takes a string, an int or a bool that is always there; this may be something else.";
        let error = Error::new("expr.type_mismatch", self.at(at), message, "not known to be one of them");
        self.refuse(error.with_help("write `switch string(x ?? '') { 'a' => ..., _ => ... }`, or `int(x ?? 0)`"));
    }

    /// Variables of the policy cannot change and need not be shared with a closure.
    pub fn share(&self, statement: &mut Stmt) {
        let Stmt::Share(names) = &mut *statement else { return };
        names.retain(|(name, _)| self.declared.contains(&name.name));
        if names.is_empty() {
            *statement = Stmt::Noop(Position::NONE);
        }
    }

    /// A value of which no more is known than that the text made it.
    pub fn anything(&self) -> Known {
        Known::of(Facts { ty: Type::Any, absent: false, ..self.anything })
    }

    fn no_statement(&mut self, what: &str, at: Position) -> Known {
        let message = format!("Scripts have no {what}.");
        let error = Error::new("expr.unsupported", self.at(at), message, "not in scripts");
        self.refuse(
            error.with_help("end with deny(code, status, text) or fail(code, detail); catch with the step `try`"),
        )
    }

    /// A local takes no name that the policy uses already.
    pub fn declares(&mut self, name: &str, at: Position) {
        let range = self.at(at);
        let segment = [Segment { name, index: None, at: range.clone() }];
        let taken = match self.scope.resolve(&segment) {
            Ok(_) => true,
            Err(why) => why.at_segment > 0 || !why.code.ends_with("unknown_variable"),
        };
        if taken || (name == OUT && self.form != Form::Expression) {
            let message = format!("`{name}` is a variable of the policy already.");
            let error = Error::new("expr.shadows", range, message, "would hide it");
            self.refuse(error.with_help("give the local another name"));
        }
    }

    fn assignment(&mut self, parts: &mut (OpAssignment, rhai::BinaryExpr)) -> Known {
        let nothing = Known::of(Facts::policy(Type::Any).maybe());
        let at = parts.0.position();
        let mut plain = false;
        if let Some((_, _, _, _, _, sign)) = parts.0.get_op_assignment_info() {
            // `a += b` is `a = a + b`, with our own `+`.
            let both = vec![parts.1.lhs.clone(), parts.1.rhs.clone()];
            let mut value = Expr::Unit(at);
            let known = self.operator(&mut value, sign, both, at);
            parts.1.rhs = value;
            parts.0 = OpAssignment::new_assignment(at);
            self.assigned(&parts.1.lhs, known.facts, at);
        } else {
            let at = parts.1.rhs.start_position();
            let facts = self.expr(&mut parts.1.rhs).facts;
            self.assigned(&parts.1.lhs, facts, at);
            plain = !Kinds::of(facts.ty).meets(Kinds::LIST.or(Kinds::MAP));
        }
        if !plain && !matches!(parts.1.lhs, Expr::Variable(..)) {
            let facts = self.anything;
            self.wrap(&mut parts.1.rhs, Action::Stored, facts);
        }
        self.target(&mut parts.1.lhs);
        nothing
    }

    /// Notes what a result is made of.
    fn assigned(&mut self, target: &Expr, facts: Facts, at: Position) {
        if let Some((name, _)) = self.result_name(target) {
            let whole = matches!(target, Expr::Dot(parts, ..) if matches!(parts.rhs, Expr::Property(..)));
            self.results.push(Assigned { name, whole, facts, at: self.at(at) });
        }
    }

    /// Makes an expression the one input of a plan.
    pub fn wrap(&self, expr: &mut Expr, action: Action, facts: Facts) {
        let at = expr.start_position();
        let inner = std::mem::replace(expr, Expr::Unit(at));
        self.put(expr, vec![inner], action, facts, at);
    }

    /// A condition of a statement of Rhai's own: it must be a bool.
    pub fn truth(&mut self, expr: &mut Expr, sign: &str) -> Known {
        let known = self.condition(expr, sign);
        if !only_answers(expr) {
            self.wrap(expr, Action::Truth, known.facts);
        }
        known
    }

    /// A condition whose plan asks for a bool itself.
    pub fn condition(&mut self, expr: &mut Expr, sign: &str) -> Known {
        let at = expr.start_position();
        let known = self.expr(expr);
        if !Kinds::of(known.facts.ty).meets(Kinds::BOOL) {
            let word = known.facts.ty.word();
            let message = format!("`{sign}` works on bools; this is {}.", with_article(word));
            let error = Error::new("expr.type_mismatch", self.at(at), message, word);
            self.refuse(error.with_help("compare it with something: `x == 'a'`, `x > 0`, `exists(x)`"));
        }
        Known::of(Facts { ty: Type::Bool, absent: false, ..known.facts })
    }

    /// Lowers an expression in its place.
    pub fn expr(&mut self, expr: &mut Expr) -> Known {
        if let Some(known) = self.receiver.take() {
            return known;
        }
        let at = expr.position();
        let literal = |ty, value| Known { facts: Facts::policy(ty), literal: Some(value) };
        match expr {
            Expr::BoolConstant(bool, _) => literal(Type::Bool, Value::Bool(*bool)),
            Expr::IntegerConstant(int, _) => literal(Type::Int, Value::Int(*int)),
            Expr::FloatConstant(float, _) => literal(Type::Float, Value::Float(**float)),
            Expr::StringConstant(text, _) => literal(Type::Text, Value::text(text.as_str())),
            Expr::Unit(_) => Known::of(Facts::policy(Type::Any).maybe()),
            Expr::InterpolatedString(parts, _) => {
                let parts = parts.to_vec();
                let (inputs, known) = self.all(parts);
                let facts = mixed(Facts::policy(Type::Text), &known);
                self.put(expr, inputs, Action::Concat, facts, at);
                Known::of(facts)
            }
            Expr::Array(elements, _) => {
                let (inputs, known) = self.all(elements.to_vec());
                let facts = mixed(Facts::policy(Type::List(Element::Any)), &known);
                let values: Option<Vec<Value>> = known.into_iter().map(|known| known.literal).collect();
                self.put(expr, inputs, Action::Array, facts, at);
                Known { facts, literal: values.map(|values| Value::List(values.into())) }
            }
            Expr::Map(map, _) => {
                let (keys, values): (Vec<_>, Vec<_>) =
                    map.0.iter().map(|(key, value)| (key.name.as_str().into(), value.clone())).unzip();
                let (inputs, known) = self.all(values);
                let facts = mixed(Facts::policy(Type::Map(Element::Any)), &known);
                self.put(expr, inputs, Action::Map(keys.into()), facts, at);
                Known::of(facts)
            }
            Expr::Variable(..) | Expr::Dot(..) | Expr::Index(..) => self.chain(expr),
            Expr::FnCall(call, _) if call.op_token.is_some() => {
                let (sign, args) = (call.name.clone(), call.args.to_vec());
                self.operator(expr, &sign, args, at)
            }
            Expr::FnCall(call, _) => {
                let call = call.clone();
                self.call(expr, *call, at)
            }
            Expr::Stmt(block) => self.block(block),
            Expr::And(parts, _) | Expr::Or(parts, _) => {
                let parts = parts.to_vec();
                let and = matches!(expr, Expr::And(..));
                self.logic(expr, parts, and, at)
            }
            Expr::Coalesce(parts, _) => self.default(parts),
            Expr::DynamicConstant(value, _) if value.is_fnptr() => self.stray_closure(at),
            Expr::ThisPtr(_) => {
                let error = Error::new("expr.unsupported", self.at(at), "There is no `this`.", "not here");
                self.refuse(error.with_help("name the variable by its full path"))
            }
            Expr::Custom(..) => {
                let error = Error::new("expr.unknown_variable", self.at(at), "There is no such variable.", "unknown");
                self.refuse(error.with_help("names are letters, digits and `_`; see docs/variables.md"))
            }
            _ => self.anything(),
        }
    }

    /// Closures are arguments of list methods and nothing else: one that could be kept could hold itself.
    pub fn stray_closure(&mut self, at: Position) -> Known {
        let message = "A closure stands only in the call of a list method.";
        let error = Error::new("expr.stray_closure", self.at(at), message, "not in a list method");
        self.refuse(error.with_help("write list.map(|x| ...); for a function of your own write `fn name(x) { ... }`"))
    }

    pub fn all(&mut self, mut parts: Vec<Expr>) -> (Vec<Expr>, Vec<Known>) {
        let known = parts.iter_mut().map(|part| self.expr(part)).collect();
        (parts, known)
    }

    fn logic(&mut self, place: &mut Expr, mut parts: Vec<Expr>, and: bool, at: Position) -> Known {
        let sign = if and { "&&" } else { "||" };
        let mut facts = Facts::policy(Type::Bool);
        for part in &mut parts {
            facts = facts.mixed(self.condition(part, sign).facts);
        }
        self.put(place, parts, if and { Action::And } else { Action::Or }, facts, at);
        Known::of(facts)
    }

    fn default(&mut self, parts: &mut [Expr]) -> Known {
        let mut known: Option<Known> = None;
        for part in parts {
            let next = self.expr(part);
            known = Some(match known {
                None => next,
                Some(left) => {
                    let absent = left.facts.absent && next.facts.absent;
                    let either = left.or(&next);
                    Known::of(Facts { absent, ..either.facts })
                }
            });
        }
        known.unwrap_or_else(|| self.anything())
    }
}

/// Whether a lowered expression gives a bool and nothing else.
fn only_answers(expr: &Expr) -> bool {
    let Expr::Custom(custom, _) = expr else { return matches!(expr, Expr::BoolConstant(..)) };
    let carried = custom.state.read_lock::<Carried>();
    carried.is_some_and(|carried| {
        matches!(
            carried.0.action,
            Action::And
                | Action::Or
                | Action::Not
                | Action::Truth
                | Action::Exists
                | Action::Compare(_)
                | Action::In { .. }
                | Action::Matches(_)
                | Action::InNetworks(_)
                | Action::InNetworkList
        )
    })
}

/// The facts of a value made of others.
pub(super) fn mixed(facts: Facts, parts: &[Known]) -> Facts {
    parts.iter().fold(facts, |facts, part| facts.mixed(part.facts))
}

/// The facts of a yes or no about values: it gives away no more than `==` does.
pub(super) fn answer(parts: &[Known]) -> (Facts, Facts) {
    let facts = mixed(Facts::policy(Type::Bool), parts);
    (facts, Facts { mark: Mark::None, ..facts })
}

/// What nothing has been read of yet.
pub(super) fn nothing_read() -> Facts {
    Facts { ty: Type::Any, absent: false, origin: Origin::Policy, mark: Mark::None }
}
