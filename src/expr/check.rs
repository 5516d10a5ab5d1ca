//! Names to reads, types to agreement, tree to nodes.
//!
//! Everything that can be known at load is refused at load, and all of an expression's errors are found in
//! one pass: a part that failed gives nothing, its neighbours are still checked.

use std::ops::Range;

use crate::engine::value::{Element, Facts, Text, Type, Val, Value, with_article};
use crate::expr::narrow::Present;
use crate::expr::node::Node;
use crate::expr::parse::{Expr, Kind, Step};
use crate::expr::{Error, Kinds, Resolved, Scope, Segment, Unresolved};

/// A checked part of an expression.
pub(super) struct Typed {
    pub node: Node,
    pub facts: Facts,
    /// Made of literals alone, not of what a stage or a resource gave.
    pub literal: bool,
}

/// One pass over one expression.
pub(super) struct Check<'s> {
    pub source: &'s str,
    pub scope: &'s mut dyn Scope,
    pub errors: Vec<Error>,
    /// What the conditions to the left have proved.
    pub known: Vec<Present>,
}

impl<'s> Check<'s> {
    pub fn new(source: &'s str, scope: &'s mut dyn Scope) -> Check<'s> {
        Check { source, scope, errors: Vec::new(), known: Vec::new() }
    }

    pub fn refuse<T>(&mut self, error: Error) -> Option<T> {
        self.errors.push(error);
        None
    }

    /// Lowers a part that may be absent.
    pub fn lower(&mut self, expr: &Expr) -> Option<Typed> {
        match &expr.kind {
            Kind::Literal(value) => Some(literal(value)),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Path(steps) => self.path(steps, expr),
            Kind::Member(base, step) => {
                let base = self.lower(base)?;
                let typed = self.step(base, step)?;
                self.folded(typed, expr)
            }
            Kind::Index(base, key) => self.index(base, key, expr),
            Kind::Not(inner) => {
                let inner = self.truth(inner, "!")?;
                let node = Node::Not(Box::new(inner.node), inner.facts.origin);
                self.folded(
                    Typed { node, facts: Facts { ty: Type::Bool, ..inner.facts }, literal: inner.literal },
                    expr,
                )
            }
            Kind::Negate(inner) => self.negate(inner, expr),
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right, expr),
            Kind::Call { name, name_at, arguments } => self.call(name, name_at, arguments, expr),
        }
    }

    /// Lowers a part that must be there; `tight` if its cure needs parentheses.
    pub fn present(&mut self, expr: &Expr, tight: bool, wanted: Type) -> Option<Typed> {
        let typed = self.lower(expr);
        self.demand(typed, expr, tight, wanted)
    }

    /// Refuses what may be absent; `wanted` is the type that the cure shows where it has none of its own.
    fn demand(&mut self, typed: Option<Typed>, expr: &Expr, tight: bool, wanted: Type) -> Option<Typed> {
        let typed = typed?;
        if !typed.facts.absent {
            return Some(typed);
        }
        let ty = if typed.facts.ty.is_open() { wanted } else { typed.facts.ty };
        self.refuse(may_be_absent(self.source, expr.at.clone(), ty, tight))
    }

    /// Lowers two parts that must be there, each of which shows the type of the other.
    pub fn both_present(&mut self, left: &Expr, right: &Expr, tight: bool) -> (Option<Typed>, Option<Typed>) {
        let (one, other) = (self.lower(left), self.lower(right));
        let ty = |typed: &Option<Typed>| typed.as_ref().map_or(Type::Any, |typed| typed.facts.ty);
        let (one_type, other_type) = (ty(&one), ty(&other));
        (self.demand(one, left, tight, other_type), self.demand(other, right, tight, one_type))
    }

    /// Lowers a part that must be a bool.
    pub fn truth(&mut self, expr: &Expr, sign: &str) -> Option<Typed> {
        let typed = self.present(expr, sign == "!", Type::Bool)?;
        if Kinds::of(typed.facts.ty).meets(Kinds::BOOL) {
            return Some(typed);
        }
        let message = format!("`{sign}` works on bools; this is {}.", with_article(typed.facts.ty.word()));
        let error = Error::new("expr.type_mismatch", expr.at.clone(), message, typed.facts.ty.word());
        self.refuse(error.with_help("compare it with something: `x == 'a'`, `x > 0`, `exists(x)`"))
    }

    /// Evaluates at load what is the same at every time.
    pub fn folded(&mut self, typed: Typed, expr: &Expr) -> Option<Typed> {
        let mut fixed = typed.node.is_fixed();
        typed.node.children(&mut |child| fixed = fixed && matches!(child, Node::Const(_)));
        if !fixed || matches!(typed.node, Node::Const(_)) {
            return Some(typed);
        }
        match typed.node.eval(&crate::expr::compiled::Nothing).map(Val::into_value) {
            Ok(value) => {
                let ty = if typed.facts.ty.is_open() { type_of(&value) } else { typed.facts.ty };
                let facts = Facts { ty, absent: value == Value::Absent, ..typed.facts };
                Some(Typed { node: Node::Const(value), facts, ..typed })
            }
            Err(fault) => {
                let message = format!("This can never be evaluated: {}.", fault.detail);
                self.refuse(Error::new("expr.never_works", expr.at.clone(), message, fault.code.into_owned()))
            }
        }
    }

    fn list(&mut self, elements: &[Expr]) -> Option<Typed> {
        let elements: Vec<_> = elements.iter().map(|element| self.present(element, false, Type::Any)).collect();
        let elements: Vec<Typed> = elements.into_iter().collect::<Option<_>>()?;
        let all = |ty| !elements.is_empty() && elements.iter().all(|element| element.facts.ty == ty);
        let element = match () {
            () if all(Type::Text) => Element::Text,
            () if all(Type::Json) => Element::Json,
            () => Element::Any,
        };
        let facts = mixed(Type::List(element), elements.iter());
        let literal = elements.iter().all(|element| element.literal);
        let nodes: Vec<Node> = elements.into_iter().map(|element| element.node).collect();
        let node = match constants(&nodes) {
            Some(values) => Node::Const(Value::List(values.into())),
            None => Node::List(nodes.into()),
        };
        Some(Typed { node, facts, literal })
    }

    fn map(&mut self, entries: &[(String, Expr)]) -> Option<Typed> {
        let values: Vec<_> = entries.iter().map(|(_, value)| self.present(value, false, Type::Any)).collect();
        let values: Vec<Typed> = values.into_iter().collect::<Option<_>>()?;
        let facts = mixed(Type::Map(Element::Any), values.iter());
        let literal = values.iter().all(|value| value.literal);
        let keys = entries.iter().map(|(key, _)| Text::from(key.as_str()));
        let node = Node::Map(keys.zip(values.into_iter().map(|value| value.node)).collect());
        let fixed = Typed { node, facts, literal };
        match entries.first() {
            Some((_, first)) => self.folded(fixed, first),
            None => Some(Typed { node: Node::Const(Value::Map(Default::default())), ..fixed }),
        }
    }

    fn path(&mut self, steps: &[Step], expr: &Expr) -> Option<Typed> {
        let segments: Vec<Segment<'_>> =
            steps.iter().map(|step| Segment { name: &step.name, index: step.index, at: step.at.clone() }).collect();
        let (mut typed, used) = match self.scope.resolve(&segments) {
            Ok(Resolved::Read { read, facts, used }) => (Typed { node: Node::Read(read), facts, literal: false }, used),
            Ok(Resolved::Constant { value, facts, used }) => {
                (Typed { node: Node::Const(value), facts, literal: false }, used)
            }
            Err(unresolved) => {
                let at = steps.get(unresolved.at_segment).or(steps.last()).map_or(0..0, |step| step.at.clone());
                return self.refuse(unresolved_at(unresolved, at));
            }
        };
        self.narrow(&mut typed);
        for step in steps.iter().skip(used.max(1)) {
            typed = self.step(typed, step)?;
        }
        self.folded(typed, expr)
    }

    /// One member further, by a name, a constant key or a constant position.
    fn step(&mut self, base: Typed, step: &Step) -> Option<Typed> {
        let ty = match (base.facts.ty, step.index) {
            (Type::Any, _) => Type::Any,
            (Type::Json, _) => Type::Json,
            (Type::Map(element), None) | (Type::List(element), Some(_)) => element.ty(),
            (ty, _) => return self.refuse(no_member(ty, step)),
        };
        let inner = Box::new(base.node);
        let node = match step.index {
            Some(position) => Node::Element(inner, position),
            None => Node::Member(inner, step.name.as_str().into()),
        };
        let mut typed = Typed { node, facts: Facts { ty, absent: true, ..base.facts }, literal: base.literal };
        self.narrow(&mut typed);
        Some(typed)
    }

    /// A path that has been proved to be there is not "?".
    fn narrow(&self, typed: &mut Typed) {
        if typed.facts.absent
            && let Some(Present { read, members }) = Present::of(&typed.node)
            && (self.known.iter().any(|known| known.implies(&read, &members)) || self.scope.proven(&read, &members))
        {
            typed.facts.absent = false;
        }
    }

    fn index(&mut self, base: &Expr, key: &Expr, expr: &Expr) -> Option<Typed> {
        let (holder, key_typed) = (self.lower(base), self.present(key, false, Type::Any));
        let (holder, key_typed) = (holder?, key_typed?);
        let (ty, wanted) = match holder.facts.ty {
            Type::Map(element) => (element.ty(), Kinds::TEXT),
            Type::List(element) => (element.ty(), Kinds::INT),
            open @ (Type::Any | Type::Json) => (open, Kinds::TEXT.or(Kinds::INT)),
            other => {
                let step = Step { name: String::new(), index: None, at: key.at.clone() };
                return self.refuse(no_member(other, &step));
            }
        };
        if !Kinds::of(key_typed.facts.ty).meets(wanted) {
            let (holder, key_word) = (holder.facts.ty.word(), key_typed.facts.ty.word());
            let message = format!("A {holder} is indexed by {}; this is {}.", wanted.words(), with_article(key_word));
            return self.refuse(Error::new("expr.type_mismatch", key.at.clone(), message, key_word));
        }
        let facts = Facts { ty, absent: true, ..holder.facts }.mixed(key_typed.facts);
        let literal = holder.literal && key_typed.literal;
        let (base, key) = (Box::new(holder.node), Box::new(key_typed.node));
        self.folded(Typed { node: Node::Index { base, key, origin: facts.origin }, facts, literal }, expr)
    }
}

fn literal(value: &Value) -> Typed {
    Typed { node: Node::Const(value.clone()), facts: Facts::policy(type_of(value)), literal: true }
}

/// The type of a value that is known.
fn type_of(value: &Value) -> Type {
    match value {
        Value::Absent => Type::Any,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Float(_) => Type::Float,
        Value::Text(_) => Type::Text,
        Value::Bytes(_) => Type::Bytes,
        Value::Time(_) => Type::Time,
        Value::List(_) => Type::List(Element::Any),
        Value::Map(_) => Type::Map(Element::Any),
        Value::Json(_) => Type::Json,
    }
}

/// Facts of a value made of several.
pub(super) fn mixed<'t>(ty: Type, parts: impl Iterator<Item = &'t Typed>) -> Facts {
    parts.fold(Facts::policy(ty), |facts, part| facts.mixed(part.facts))
}

fn constants(nodes: &[Node]) -> Option<Vec<Value>> {
    let value = |node: &Node| if let Node::Const(value) = node { Some(value.clone()) } else { None };
    nodes.iter().map(value).collect()
}

/// The load error of a "?" value in a place that needs one.
pub(super) fn may_be_absent(source: &str, at: Range<usize>, ty: Type, tight: bool) -> Error {
    let path = source.get(at.clone()).unwrap_or_default().replace('"', "'");
    let default = match ty {
        Type::Bool => "false",
        Type::Int => "0",
        Type::Float => "0.0",
        Type::Time => "now()",
        Type::List(_) => "[]",
        Type::Map(_) => "#{}",
        _ => "''",
    };
    let cure = if tight { format!("({path} ?? {default})") } else { format!("{path} ?? {default}") };
    let message = format!("`{path}` may be absent; here a value is needed.");
    Error::new("expr.may_be_absent", at, message, "may be absent")
        .with_help(format!("say what stands in for it: `{cure}`, or ask before with exists({path}) &&"))
}

pub(super) fn no_member(ty: Type, step: &Step) -> Error {
    let word = ty.word();
    let message = match (ty, step.index) {
        (Type::List(_), _) => format!("A list has positions, no member `{}`.", step.name),
        (Type::Map(_), _) => format!("A map has keys, no position {}.", step.name),
        _ => format!("This is {}: it has no members.", with_article(word)),
    };
    let help = match ty {
        Type::List(_) => "write list[0], or list.len() for a function",
        Type::Map(_) => "write map.key or map['key']",
        _ => "functions are called with parentheses: x.len() or len(x)",
    };
    Error::new("expr.no_member", step.at.clone(), message, format!("not in {}", with_article(word))).with_help(help)
}

pub(super) fn marked_order(at: Range<usize>) -> Error {
    let message = "The order of a secret or token would tell more of it with every guess; only `==`, `!=` \
                   and `in` of a list compare it, in constant time.";
    Error::new("expr.marked_order", at, message, "a secret or token stands here")
        .with_help("compare with `==`, or compare something that is not secret")
}

pub(super) fn unresolved_at(unresolved: Unresolved, at: Range<usize>) -> Error {
    let Unresolved { code, message, label, help, .. } = unresolved;
    Error { code, message, label, help, at }
}
