//! The check of operators: which types they take, and what they give.

use std::ops::Range;

use crate::engine::value::{Element, Facts, Mark, Type, Value, with_article};
use crate::expr::check::{Check, Typed, marked_order};
use crate::expr::compare::element_kinds;
use crate::expr::narrow::proves;
use crate::expr::node::{Node, Test};
use crate::expr::parse::{Expr, Operator};
use crate::expr::{Error, Kinds};

/// From this many texts on, `in` asks a hash set.
const SET_TEXTS_MIN: usize = 8;

impl Check<'_> {
    pub fn negate(&mut self, inner: &Expr, expr: &Expr) -> Option<Typed> {
        let typed = self.present(inner, true, Type::Int)?;
        if !Kinds::of(typed.facts.ty).meets(Kinds::NUMBER) {
            let message = format!("`-` works on numbers; this is {}.", with_article(typed.facts.ty.word()));
            return self.refuse(Error::new("expr.type_mismatch", inner.at.clone(), message, typed.facts.ty.word()));
        }
        let ty = if typed.facts.ty == Type::Json { Type::Any } else { typed.facts.ty };
        let node = Node::Negate(Box::new(typed.node), typed.facts.origin);
        self.folded(Typed { node, facts: Facts { ty, ..typed.facts }, literal: typed.literal }, expr)
    }

    pub fn binary(&mut self, operator: Operator, left: &Expr, right: &Expr, expr: &Expr) -> Option<Typed> {
        match operator {
            Operator::And => self.logic(true, left, right),
            Operator::Or => self.logic(false, left, right),
            Operator::Default => self.default(left, right, expr),
            Operator::In | Operator::NotIn => {
                let (needle, hay) = (self.lower(left), self.lower(right));
                self.membership(operator == Operator::NotIn, (needle?, left), (hay?, right), expr)
            }
            Operator::Equal => self.compare(Test::Equal, left, right, expr),
            Operator::Unequal => self.compare(Test::Unequal, left, right, expr),
            Operator::Less => self.compare(Test::Less, left, right, expr),
            Operator::LessOrEqual => self.compare(Test::LessOrEqual, left, right, expr),
            Operator::Greater => self.compare(Test::Greater, left, right, expr),
            Operator::GreaterOrEqual => self.compare(Test::GreaterOrEqual, left, right, expr),
            _ => self.arithmetic(operator, left, right, expr),
        }
    }

    fn logic(&mut self, and: bool, left: &Expr, right: &Expr) -> Option<Typed> {
        let sign = if and { "&&" } else { "||" };
        let left = self.truth(left, sign);
        let before = self.known.len();
        if let Some(left) = &left {
            proves(&left.node, and, &mut self.known);
        }
        let right = self.truth(right, sign);
        self.known.truncate(before);
        let (left, right) = (left?, right?);
        let facts = Facts { ty: Type::Bool, ..left.facts }.mixed(right.facts);
        match left.node {
            Node::Const(Value::Bool(bool)) if bool != and => return Some(left),
            Node::Const(Value::Bool(_)) if right.facts.ty == Type::Bool => {
                return Some(Typed { literal: left.literal && right.literal, ..right });
            }
            _ => {}
        }
        let literal = left.literal && right.literal;
        let (left, right) = (Box::new(left.node), Box::new(right.node));
        let node = if and { Node::And(left, right, facts.origin) } else { Node::Or(left, right, facts.origin) };
        Some(Typed { node, facts, literal })
    }

    fn default(&mut self, left: &Expr, right: &Expr, expr: &Expr) -> Option<Typed> {
        let (left, right) = (self.lower(left), self.lower(right));
        let (left, right) = (left?, right?);
        let Some(ty) = common(left.facts.ty, &left.node, right.facts.ty, &right.node) else {
            return self.refuse(mismatch(
                expr.at.clone(),
                "Both sides of `??` must have one type",
                left.facts,
                right.facts,
            ));
        };
        let absent = left.facts.absent && right.facts.absent;
        let facts = Facts { ty, absent, ..left.facts }.mixed(right.facts);
        let literal = left.literal && right.literal;
        let node = Node::Default(Box::new(left.node), Box::new(right.node));
        self.folded(Typed { node, facts, literal }, expr)
    }

    fn compare(&mut self, test: Test, left: &Expr, right: &Expr, expr: &Expr) -> Option<Typed> {
        let orders = test.orders();
        let (left, right) =
            if orders { self.both_present(left, right, false) } else { (self.lower(left), self.lower(right)) };
        let (left, right) = (left?, right?);
        let (left_kinds, right_kinds) = (Kinds::of(left.facts.ty), Kinds::of(right.facts.ty));
        let ordered = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::TIME);
        if !left_kinds.comparable(right_kinds) {
            return self.refuse(mismatch(
                expr.at.clone(),
                "Values of one type can be compared",
                left.facts,
                right.facts,
            ));
        }
        if orders && !(left_kinds.meets(ordered) && right_kinds.meets(ordered)) {
            return self.refuse(mismatch(
                expr.at.clone(),
                "Numbers, texts and times have an order",
                left.facts,
                right.facts,
            ));
        }
        let facts = Facts { ty: Type::Bool, absent: false, ..left.facts }.mixed(right.facts);
        let marked = facts.mark.is_credential();
        if orders && marked {
            return self.refuse(marked_order(expr.at.clone()));
        }
        let literal = left.literal && right.literal;
        let (left, right) = (Box::new(left.node), Box::new(right.node));
        let node = Node::Compare { test, left, right, origin: facts.origin, marked };
        self.folded(Typed { node, facts: Facts { mark: Mark::None, ..facts }, literal }, expr)
    }

    /// `in`, `!in` and `contains`.
    pub fn membership(
        &mut self,
        not: bool,
        (needle, needle_expr): (Typed, &Expr),
        (hay, hay_expr): (Typed, &Expr),
        expr: &Expr,
    ) -> Option<Typed> {
        let (needle_kinds, hay_kinds) = (Kinds::of(needle.facts.ty), Kinds::of(hay.facts.ty));
        if !hay_kinds.meets(Kinds::LIST.or(Kinds::MAP).or(Kinds::TEXT)) {
            let message =
                format!("`in` looks into lists, texts and maps; this is {}.", with_article(hay.facts.ty.word()));
            return self.refuse(Error::new("expr.type_mismatch", hay_expr.at.clone(), message, hay.facts.ty.word()));
        }
        let fits = match (hay.facts.ty, &hay.node) {
            (_, Node::Const(Value::List(list))) => {
                list.is_empty() || element_kinds(list).any(|kinds| needle_kinds.comparable(kinds))
            }
            (Type::List(element), _) => needle_kinds.comparable(Kinds::of(element.ty())),
            (Type::Text | Type::Map(_), _) => needle_kinds.meets(Kinds::TEXT),
            _ => true,
        };
        if !fits {
            let word = needle.facts.ty.word();
            let message = format!("A {word} can never be in here: nothing in it has that type.");
            return self.refuse(
                Error::new("expr.type_mismatch", needle_expr.at.clone(), message, word)
                    .with_help(convert(needle.facts.ty, Type::Text)),
            );
        }
        let facts = Facts { ty: Type::Bool, absent: false, ..needle.facts }.mixed(hay.facts);
        let (origin, marked) = (facts.origin, facts.mark.is_credential());
        if facts.mark == Mark::Secret && !matches!(hay.facts.ty, Type::List(_) | Type::Map(_)) {
            return self.refuse(marked_order(expr.at.clone()));
        }
        let literal = needle.literal && hay.literal;
        let needle = Box::new(needle.node);
        let node = match hay.node {
            Node::Const(Value::List(list)) if !marked && is_word_list(&list) => {
                let texts =
                    list.iter().filter_map(|value| if let Value::Text(text) = value { Some(text) } else { None });
                Node::InSet { not, needle, set: texts.cloned().collect(), origin }
            }
            hay => Node::In { not, needle, hay: Box::new(hay), origin, marked },
        };
        self.folded(Typed { node, facts: Facts { mark: Mark::None, ..facts }, literal }, expr)
    }

    fn arithmetic(&mut self, operator: Operator, left: &Expr, right: &Expr, expr: &Expr) -> Option<Typed> {
        let (a, b) = self.both_present(left, right, true);
        let dashed = operator == Operator::Subtract && left.at.end + 1 == right.at.start;
        if dashed
            && b.is_none()
            && let Some(error) = self.errors.last_mut()
        {
            error.help = Some("a name with a dash is written as a key: request.headers['x-a']".to_owned());
        }
        let (left, right) = (a?, b?);
        let (left_kinds, right_kinds) = (Kinds::of(left.facts.ty), Kinds::of(right.facts.ty));
        let adds = operator == Operator::Add;
        let numbers = left_kinds.meets(Kinds::NUMBER) && right_kinds.meets(Kinds::NUMBER);
        let texts = adds && left_kinds.meets(Kinds::TEXT) && right_kinds.meets(Kinds::TEXT);
        if !numbers && !texts {
            let what = if adds { "`+` adds numbers or joins texts" } else { "This operator works on numbers" };
            return self.refuse(mismatch(expr.at.clone(), what, left.facts, right.facts));
        }
        let ty = match (left.facts.ty, right.facts.ty) {
            (Type::Int, Type::Int) => Type::Int,
            (Type::Float, Type::Int | Type::Float) | (Type::Int, Type::Float) => Type::Float,
            _ if !numbers => Type::Text,
            (Type::Float, _) | (_, Type::Float) => Type::Float,
            _ => Type::Any,
        };
        let facts = Facts { ty, absent: false, ..left.facts }.mixed(right.facts);
        let literal = left.literal && right.literal;
        let (left, right) = (Box::new(left.node), Box::new(right.node));
        self.folded(
            Typed { node: Node::Arithmetic { operator, left, right, origin: facts.origin }, facts, literal },
            expr,
        )
    }
}

/// Whether a list known at load is long and holds texts only.
fn is_word_list(list: &[Value]) -> bool {
    list.len() >= SET_TEXTS_MIN && list.iter().all(|value| matches!(value, Value::Text(_)))
}

/// The one type of both sides of `??`.
fn common(left: Type, left_node: &Node, right: Type, right_node: &Node) -> Option<Type> {
    let empty = |node: &Node| match node {
        Node::Const(Value::List(list)) => list.is_empty(),
        Node::Const(Value::Map(map)) => map.0.is_empty(),
        _ => false,
    };
    match (left, right) {
        _ if left == right => Some(left),
        (Type::Int | Type::Float, Type::Int | Type::Float) => Some(Type::Any),
        (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) if empty(right_node) => Some(left),
        (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) if empty(left_node) => Some(right),
        (Type::List(_), Type::List(_)) => Some(Type::List(Element::Any)),
        (Type::Map(_), Type::Map(_)) => Some(Type::Map(Element::Any)),
        (Type::Json, other) | (other, Type::Json) if Kinds::of(other).meets(Kinds::of(Type::Json)) => {
            Some(if other == Type::Any { Type::Any } else { open(other) })
        }
        (Type::Any, _) | (_, Type::Any) => Some(Type::Any),
        _ => None,
    }
}

/// A JSON value or another: JSON where the other could stand in JSON.
fn open(ty: Type) -> Type {
    if matches!(ty, Type::Map(_) | Type::List(_)) { Type::Any } else { Type::Json }
}

pub(super) fn mismatch(at: Range<usize>, rule: &str, left: Facts, right: Facts) -> Error {
    let (left_word, right_word) = (left.ty.word(), right.ty.word());
    let message = format!("{rule}; here are {} and {}.", with_article(left_word), with_article(right_word));
    Error::new("expr.type_mismatch", at, message, format!("{left_word} and {right_word}"))
        .with_help(convert(left.ty, right.ty))
}

/// How to bring two types together.
fn convert(left: Type, right: Type) -> &'static str {
    let pair = [left, right];
    match () {
        () if pair.contains(&Type::Text) && pair.contains(&Type::Int) => {
            "write the number as a text ('7'), or convert: int(x), string(x)"
        }
        () if pair.contains(&Type::Text) && pair.contains(&Type::Bytes) => {
            "bytes become text by string(x), base64(x) or hex(x)"
        }
        () if pair.contains(&Type::Text) && pair.contains(&Type::Time) => "a time becomes a number by unix(x)",
        () => "convert one of them: string(x), int(x), float(x), unix(x)",
    }
}
