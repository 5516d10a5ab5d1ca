//! The check of function calls.

use std::ops::Range;

use crate::engine::value::{Element, Facts, Mark, Origin, Type, Value, with_article};
use crate::expr::check::{Check, Typed, marked_order, mixed, unresolved_at};
use crate::expr::functions::{ALIASES, FUNCTIONS, Function, RANDOM_BYTES_MAX, RANDOM_BYTES_MIN, Returns, Run, named};
use crate::expr::node::{Node, network};
use crate::expr::parse::Expr;
use crate::expr::suggest::nearest;
use crate::expr::{Error, Kinds, REGEX_BYTES_MAX};

impl Check<'_> {
    pub fn call(&mut self, name: &str, name_at: &Range<usize>, arguments: &[Expr], expr: &Expr) -> Option<Typed> {
        let own = self.scope.functions();
        let function = named(name).or_else(|| own.iter().find(|function| function.name == name));
        if function.is_none() {
            self.errors.push(unknown(name, name_at.clone()));
        }
        let absent_allowed = function.is_some_and(|function| matches!(function.run, Run::Exists));
        // Checked even where the function is not known: all errors at once.
        let typed: Vec<Option<Typed>> = arguments
            .iter()
            .enumerate()
            .map(|(place, argument)| match function.and_then(|function| function.accepts.get(place)) {
                _ if absent_allowed => self.lower(argument),
                accepts => self.present(argument, false, accepts.map_or(Type::Any, |kinds| kinds.example())),
            })
            .collect();
        let function = function?;
        if arguments.len() != function.accepts.len() {
            return self.refuse(wrong_count(function, name_at.start..expr.at.end, arguments.len()));
        }
        let typed: Vec<Typed> = typed.into_iter().collect::<Option<_>>()?;
        let mut wrong = false;
        for ((argument, expr), accepts) in typed.iter().zip(arguments).zip(function.accepts) {
            if !Kinds::of(argument.facts.ty).meets(*accepts) {
                wrong = true;
                self.errors.push(wrong_type(function, expr.at.clone(), *accepts, argument.facts.ty));
            }
        }
        if wrong { None } else { self.apply(function, typed, arguments, expr) }
    }

    fn apply(&mut self, function: &'static Function, typed: Vec<Typed>, exprs: &[Expr], expr: &Expr) -> Option<Typed> {
        let facts = mixed(result_type(function.returns, &typed), typed.iter());
        let literal = typed.iter().all(|argument| argument.literal);
        let (origin, marked) = (facts.origin, facts.mark.is_credential());
        // What only says yes or no, or how long, gives nothing away that `==` would not.
        let others = typed.iter().skip(1).map(|argument| argument.facts);
        if facts.mark == Mark::Secret && is_search(function.name, typed.first().map(|hay| hay.facts.ty), others) {
            return self.refuse(marked_order(expr.at.clone()));
        }
        let facts = if function.tests { Facts { mark: Mark::None, ..facts } } else { facts };
        if marked && matches!(function.name, "min" | "max") {
            return self.refuse(marked_order(expr.at.clone()));
        }
        let mut parts = typed.into_iter().zip(exprs);
        let node = match function.run {
            Run::Pure(pure) => {
                let arguments = parts.map(|(argument, _)| argument.node).collect();
                Node::Call { pure, accepts: function.accepts, arguments, origin, marked }
            }
            Run::Now => Node::Now,
            Run::Random => Node::Random,
            Run::Uuid => Node::Uuid,
            Run::Exists => Node::Exists(Box::new(parts.next()?.0.node)),
            Run::RandomHex => {
                let (length, at) = parts.next()?;
                let range = RANDOM_BYTES_MIN as i64..=RANDOM_BYTES_MAX as i64;
                if matches!(length.node, Node::Const(Value::Int(length)) if !range.contains(&length)) {
                    let message = "random_hex makes 16 to 1024 bytes: fewer could be guessed.";
                    return self.refuse(Error::new("expr.wrong_arguments", at.at.clone(), message, "out of range"));
                }
                Node::RandomHex(Box::new(length.node), origin)
            }
            Run::Contains => {
                let (hay, needle) = (parts.next()?, parts.next()?);
                return self.membership(false, needle, hay, expr);
            }
            Run::Matches => self.matches(parts.next()?.0, parts.next()?, facts)?,
            Run::InCidr => self.in_cidr(parts.next()?.0, parts.next()?)?,
            Run::Scope => return self.named_value(function.name, parts.next()?),
        };
        self.folded(Typed { node, facts, literal }, expr)
    }

    fn matches(&mut self, text: Typed, (pattern, at): (Typed, &Expr), facts: Facts) -> Option<Node> {
        // The time of a search tells of the text; for a presented token that is its owner's own, for a
        // stored secret it would be a leak.
        if text.facts.mark == Mark::Secret || pattern.facts.mark.is_credential() {
            return self.refuse(marked_order(at.at.clone()));
        }
        let Node::Const(Value::Text(pattern)) = pattern.node else {
            return self.refuse(not_literal("matches", "a regular expression", at.at.clone()));
        };
        match regex::RegexBuilder::new(&pattern).size_limit(REGEX_BYTES_MAX).build() {
            Ok(regex) => Some(Node::Matches(Box::new(text.node), Box::new(regex), facts.origin)),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let message = format!("This is no regular expression that can be used: {reason}.");
                self.refuse(Error::new("expr.bad_regex", at.at.clone(), message, "does not compile").with_help(
                    "the syntax is that of Rust's regex crate: no look-around, no back references; in a text a \
                     backslash is written \\\\",
                ))
            }
        }
    }

    fn in_cidr(&mut self, address: Typed, (list, at): (Typed, &Expr)) -> Option<Node> {
        if address.facts.mark.is_credential() || list.facts.mark.is_credential() {
            return self.refuse(marked_order(at.at.clone()));
        }
        let origin = address.facts.mixed(list.facts).origin;
        let texts: Vec<&Value> = match &list.node {
            Node::Const(text @ Value::Text(_)) => vec![text],
            Node::Const(Value::List(list)) => list.iter().collect(),
            _ if list.facts.ty == Type::Text => return self.refuse(not_literal("in_cidr", "a network", at.at.clone())),
            _ => return Some(Node::InNetworkList(Box::new(address.node), Box::new(list.node), origin)),
        };
        let mut networks = Vec::with_capacity(texts.len());
        for value in texts {
            match value.view().as_text().and_then(network) {
                Some(network) => networks.push(network),
                None => {
                    let message = match value {
                        Value::Text(text) => format!("`{text}` is not a network in CIDR notation."),
                        _ => "The list holds something that is not a text.".to_owned(),
                    };
                    let error = Error::new("expr.bad_network", at.at.clone(), message, "not a network");
                    return self.refuse(error.with_help("write 10.0.0.0/8, 2001:db8::/32 or a single address"));
                }
            }
        }
        Some(Node::InNetworks(Box::new(address.node), networks.into(), origin))
    }

    /// `secret('name')` and `list('name')`.
    fn named_value(&mut self, function: &'static str, (name, at): (Typed, &Expr)) -> Option<Typed> {
        let is_marked = name.facts.mark.is_credential();
        let Node::Const(Value::Text(name)) = name.node else {
            return self.refuse(not_literal(function, "a name", at.at.clone()));
        };
        if is_marked {
            return self.refuse(not_literal(function, "a name", at.at.clone())); // which a message would repeat
        }
        match self.scope.constant(function, &name) {
            Ok(constant) => Some(Typed { node: Node::Const(constant.value), facts: constant.facts, literal: false }),
            Err(unresolved) => self.refuse(unresolved_at(unresolved, at.at.clone())),
        }
    }
}

/// Whether a function says of a text what is in it, or does with it what somebody else chooses: asked again and again,
/// that tells all of it.
pub(super) fn is_search(function: &str, hay: Option<Type>, others: impl Iterator<Item = Facts>) -> bool {
    match function {
        "starts_with" | "ends_with" => true,
        "contains" => !matches!(hay, Some(Type::List(_))),
        _ => others.into_iter().any(|other| other.origin != Origin::Policy),
    }
}

fn result_type(returns: Returns, arguments: &[Typed]) -> Type {
    let types = || arguments.iter().map(|argument| argument.facts.ty);
    match returns {
        Returns::Is(ty) => ty,
        Returns::Number if types().all(|ty| ty == Type::Int) => Type::Int,
        Returns::Number if types().any(|ty| ty == Type::Float) => Type::Float,
        Returns::Number | Returns::Scope => Type::Any,
        Returns::Elements => Type::List(match types().next() {
            Some(Type::Map(element)) => element,
            Some(Type::Json) => Element::Json,
            _ => Element::Any,
        }),
    }
}

pub(super) fn unknown(name: &str, at: Range<usize>) -> Error {
    let names = || FUNCTIONS.iter().map(|function| function.name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, meant)| *meant);
    let help = match alias.or_else(|| nearest(name, names())) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the functions are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("There is no function `{name}`.");
    Error::new("expr.unknown_function", at, message, "unknown function").with_help(help)
}

pub(super) fn wrong_count(function: &Function, at: Range<usize>, got: usize) -> Error {
    let wanted = function.accepts.len();
    let message = format!("{} takes {wanted} arguments; here are {got} (x.f(y) counts x).", function.name);
    Error::new("expr.wrong_arguments", at, message, format!("{got} instead of {wanted}"))
        .with_help(format!("write {}({})", function.name, function.parameters))
}

pub(super) fn wrong_type(function: &Function, at: Range<usize>, accepts: Kinds, got: Type) -> Error {
    let message = format!("{} takes {} here; this is {}.", function.name, accepts.words(), with_article(got.word()));
    Error::new("expr.wrong_arguments", at, message, got.word())
        .with_help(format!("write {}({}): {}", function.name, function.parameters, function.doc))
}

pub(super) fn not_literal(function: &str, what: &str, at: Range<usize>) -> Error {
    let message = format!("{function} takes {what} that stands in the policy: it is compiled when the policy loads.");
    Error::new("expr.wrong_arguments", at, message, "not a literal").with_help("write it as a text: '...'")
}
