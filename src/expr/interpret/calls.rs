//! The check of operators and function calls of an interpreted text.
//!
//! What is known at load is refused at load by the same rules as natively; what is not is left to the run, where
//! nothing is silently false.

use rhai::{Expr, FnCallExpr, Position, Stmt};

use crate::engine::value::{Element, Facts, Mark, Type, Value, with_article};
use crate::expr::call::{is_search, not_literal, unknown, wrong_count, wrong_type};
use crate::expr::check::{marked_order, unresolved_at};
use crate::expr::functions::{Function, Returns, Run, named};
use crate::expr::interpret::lower::{Form, Known, Lower, answer, mixed};
use crate::expr::interpret::plan::{Action, Method, PUSH};
use crate::expr::interpret::value::of_value;
use crate::expr::node::{Test, network};
use crate::expr::operators::mismatch;
use crate::expr::parse::Operator;
use crate::expr::suggest::nearest;
use crate::expr::{Error, Kinds, REGEX_BYTES_MAX, words};

const DENY: &str = "deny(code, status, text)";
const FAIL: &str = "fail(code, detail)";

impl Lower<'_> {
    /// An operator.
    pub fn operator(&mut self, place: &mut Expr, sign: &str, args: Vec<Expr>, at: Position) -> Known {
        match (sign, args.len()) {
            ("!", 1) => {
                let mut args = args;
                let known = args.first_mut().map(|inner| self.condition(inner, "!"));
                let facts = known.map_or(Facts::policy(Type::Bool), |known| known.facts);
                self.put(place, args, Action::Not, facts, at);
                Known::of(facts)
            }
            ("-", 1) => {
                let (args, known) = self.all(args);
                let facts = mixed(Facts::policy(Type::Any), &known);
                self.put(place, args, Action::Negate, facts, at);
                let ty = known.first().map_or(Type::Any, |known| known.facts.ty);
                Known::of(Facts {
                    ty: if Kinds::of(ty).meets(Kinds::NUMBER) && !ty.is_open() { ty } else { Type::Any },
                    ..facts
                })
            }
            ("+", 1) => {
                let mut args = args;
                let known = args.first_mut().map(|inner| self.expr(inner));
                *place = args.pop().unwrap_or(Expr::Unit(at));
                known.unwrap_or_else(|| self.anything())
            }
            (".." | "..=", 2) => {
                let (args, known) = self.all(args);
                let facts = mixed(Facts::policy(Type::List(Element::Any)), &known);
                self.put(place, args, Action::Range { inclusive: sign == "..=" }, facts, at);
                Known::of(facts)
            }
            ("contains", 2) => {
                // Rhai has turned `x in y` into `contains(y, x)`.
                let (mut args, mut known) = self.all(args);
                args.reverse();
                known.reverse();
                self.membership(place, args, &known, at)
            }
            (_, 2) => self.binary(place, sign, args, at),
            _ => self.no_operator(sign, at),
        }
    }

    fn no_operator(&mut self, sign: &str, at: Position) -> Known {
        let range = self.at(at);
        let refused = words::SIGNS.iter().find(|refused| refused.spelling == sign);
        let error = refused.map_or_else(
            || {
                let message = format!("There is no operator `{sign}`.");
                Error::new("expr.unsupported", range.clone(), message, "no operator")
                    .with_help("use a function of the reference")
            },
            |refused| refused.error(range.clone()),
        );
        self.refuse(error)
    }

    fn binary(&mut self, place: &mut Expr, sign: &str, args: Vec<Expr>, at: Position) -> Known {
        let (args, known) = self.all(args);
        let (Some(left), Some(right)) = (known.first(), known.get(1)) else { return self.no_operator(sign, at) };
        let (left, right) = (left.facts, right.facts);
        let (one, two) = (Kinds::of(left.ty), Kinds::of(right.ty));
        if let Some(test) = test(sign) {
            if !one.comparable(two) {
                let error = mismatch(self.at(at), "Values of one type can be compared", left, right);
                return self.refuse(error);
            }
            let ordered = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::TIME);
            if test.orders() && !(one.meets(ordered) && two.meets(ordered)) {
                let error = mismatch(self.at(at), "Numbers, texts and times have an order", left, right);
                return self.refuse(error);
            }
            let (facts, open) = answer(&known);
            if test.orders() && facts.mark.is_credential() {
                let error = marked_order(self.at(at));
                return self.refuse(error);
            }
            self.put(place, args, Action::Compare(test), facts, at);
            return Known::of(open);
        }
        let Some(operator) = arithmetic(sign) else { return self.no_operator(sign, at) };
        let adds = operator == Operator::Add;
        let numbers = one.meets(Kinds::NUMBER) && two.meets(Kinds::NUMBER);
        let texts = adds && one.meets(Kinds::TEXT) && two.meets(Kinds::TEXT);
        if !numbers && !texts {
            let what = if adds { "`+` adds numbers or joins texts" } else { "This operator works on numbers" };
            let error = mismatch(self.at(at), what, left, right);
            return self.refuse(error);
        }
        let ty = match (left.ty, right.ty) {
            (Type::Int, Type::Int) => Type::Int,
            (Type::Float, Type::Int | Type::Float) | (Type::Int, Type::Float) => Type::Float,
            _ if !numbers => Type::Text,
            _ => Type::Any,
        };
        let facts = mixed(Facts::policy(ty), &known);
        self.put(place, args, Action::Arithmetic(operator), facts, at);
        Known::of(facts)
    }

    /// `needle in hay`.
    fn membership(&mut self, place: &mut Expr, args: Vec<Expr>, known: &[Known], at: Position) -> Known {
        let hay = known.get(1).map_or(Type::Any, |known| known.facts.ty);
        if !Kinds::of(hay).meets(Kinds::LIST.or(Kinds::MAP).or(Kinds::TEXT)) {
            let message = format!("`in` looks into lists, texts and maps; this is {}.", with_article(hay.word()));
            let error = Error::new("expr.type_mismatch", self.at(at), message, hay.word());
            return self.refuse(error);
        }
        let (facts, open) = answer(known);
        if facts.mark == Mark::Secret && !matches!(hay, Type::List(_) | Type::Map(_)) {
            let error = marked_order(self.at(at));
            return self.refuse(error);
        }
        self.put(place, args, Action::In { not: false }, facts, at);
        Known::of(open)
    }

    /// A call in the form `f(x)` or `x.f()`.
    pub fn call(&mut self, place: &mut Expr, mut call: FnCallExpr, at: Position) -> Known {
        let name = call.name.clone();
        if !call.namespace.is_empty() {
            let error = Error::new("expr.unsupported", self.at(at), "There are no modules.", "not here");
            return self.refuse(error.with_help("call the functions of the reference by their plain names"));
        }
        // Rhai makes `x in y` a call of `contains(y, x)`, which may look into maps too.
        let written = self.source.word(at);
        if name == "contains" && call.args.len() == 2 && !written.starts_with("contains") {
            return self.operator(place, &name, call.args.to_vec(), at);
        }
        let arity = call.args.len();
        if self.functions.iter().any(|(own, parameters)| *own == name && *parameters == arity) {
            for argument in &mut call.args {
                self.expr(argument);
            }
            *place = Expr::FnCall(Box::new(call), at);
            return self.anything();
        }
        if let Some(method) = Method::named(&name) {
            return self.method(place, method, call.args.to_vec(), at);
        }
        if let (Form::Script(_), "deny" | "fail") = (self.form, name.as_str()) {
            return self.ending(place, &name, call.args.to_vec(), at);
        }
        let scope = self.scope.functions();
        let function = named(&name).or_else(|| scope.iter().find(|function| function.name == name.as_str()));
        let before = self.errors.len();
        let (args, known) = self.all(call.args.to_vec());
        if function.is_none() {
            // What is called may well take a closure; that it is unknown is the mistake.
            let mut place = 0;
            self.errors.retain(|error| {
                place += 1;
                place <= before || error.code != "expr.stray_closure"
            });
        }
        match function {
            Some(function) => self.function(place, function, (args, known), at),
            None => {
                let error = self.unknown_call(&name, arity, self.at(at));
                self.refuse(error)
            }
        }
    }

    /// No function has this name: the nearest one, else all there are.
    fn unknown_call(&self, name: &str, arity: usize, at: std::ops::Range<usize>) -> Error {
        let mut error = unknown(name, at);
        if let Some((_, parameters)) = self.functions.iter().find(|(own, _)| *own == name) {
            error.message = format!("{name} takes {parameters} arguments; here are {arity}.");
            return error;
        }
        let own = self.functions.iter().map(|(own, _)| own.as_str()).filter(|own| !own.starts_with("anon$"));
        let mut more: Vec<&str> = own.collect();
        if matches!(self.form, Form::Script(_)) {
            more.extend(["deny", "fail"]);
        }
        let methods: Vec<&str> = Method::ALL.iter().map(|method| method.name()).chain([PUSH]).collect();
        if let Some(near) = nearest(name, more.iter().chain(&methods).copied()) {
            error.help = Some(format!("did you mean `{near}`?"));
        } else if let Some(help) = error.help.as_mut().filter(|help| !help.starts_with("did you mean")) {
            if !more.is_empty() {
                help.push_str(&format!(", {}", more.join(", ")));
            }
            help.push_str(&format!("; the methods of lists are: {}", methods.join(", ")));
        }
        error
    }

    fn method(&mut self, place: &mut Expr, method: Method, mut args: Vec<Expr>, at: Position) -> Known {
        let usage = format!("write {}", method.usage());
        if !method.arguments().contains(&args.len()) {
            let message = format!("`{}` is called otherwise.", method.name());
            let error = Error::new("expr.wrong_arguments", self.at(at), message, "wrong arguments");
            return self.refuse(error.with_help(usage));
        }
        let mut known = Vec::with_capacity(args.len());
        for (number, argument) in args.iter_mut().enumerate() {
            if number != 1 {
                known.push(self.expr(argument));
            } else if let Err(got) = self.closure(argument, method.parameters()) {
                let message =
                    format!("`{}` takes a closure with {} parameters here.", method.name(), method.parameters());
                let range = self.at(argument.start_position());
                return self.refuse(Error::new("expr.wrong_arguments", range, message, got).with_help(usage));
            }
        }
        let list = known.first().map_or(Type::Any, |known| known.facts.ty);
        if !Kinds::of(list).meets(Kinds::LIST) {
            let message = format!("`{}` works on lists; this is {}.", method.name(), with_article(list.word()));
            let error = Error::new("expr.wrong_arguments", self.at(at), message, list.word());
            return self.refuse(error.with_help(usage));
        }
        let ty = match method {
            Method::Some | Method::All => Type::Bool,
            Method::Reduce => Type::Any,
            Method::Filter | Method::Sort => list,
            Method::Map => Type::List(Element::Any),
        };
        let facts = mixed(Facts::policy(if ty.is_open() { Type::Any } else { ty }), &known).mixed(self.anything);
        self.put(place, args, Action::List(method), facts, at);
        Known::of(facts)
    }

    /// Leaves a closure as Rhai made it; what it captures of the policy is no capture.
    fn closure(&mut self, argument: &mut Expr, wanted: usize) -> Result<(), &'static str> {
        let expr = match argument {
            Expr::Stmt(block) => match block.statements_mut().as_mut_slice() {
                [share @ Stmt::Share(_), Stmt::Expr(curry)] => {
                    self.share(share);
                    curry
                }
                _ => return Err("no closure"),
            },
            expr => expr,
        };
        let (pointer, captured) = match expr {
            Expr::FnCall(call, _) if call.name == "curry" => {
                let captured = call.args.len().saturating_sub(1);
                for capture in call.args.iter_mut().skip(1) {
                    if let Expr::Variable(parts, ..) = capture
                        && !self.declared.contains(&parts.1)
                    {
                        *capture = Expr::Unit(capture.position());
                    }
                }
                (call.args.first(), captured)
            }
            expr => (Some(&*expr), 0),
        };
        let Some(Expr::DynamicConstant(value, _)) = pointer else { return Err("no closure") };
        let Some(pointer) = value.read_lock::<rhai::FnPtr>() else { return Err("no closure") };
        let parameters = self.functions.iter().find(|(name, _)| name.as_str() == pointer.fn_name());
        match parameters {
            Some((_, parameters)) if *parameters == wanted + captured => Ok(()),
            _ => Err("another number of parameters"),
        }
    }

    /// `deny` and `fail`.
    fn ending(&mut self, place: &mut Expr, name: &str, args: Vec<Expr>, at: Position) -> Known {
        let deny = name == "deny";
        let (usage, counts) = if deny { (DENY, 2..=3) } else { (FAIL, 2..=2) };
        let fits = counts.contains(&args.len());
        let (args, known) = self.all(args);
        let types = if deny { [Type::Text, Type::Int, Type::Text] } else { [Type::Text; 3] };
        let typed = known.iter().zip(types).all(|(known, ty)| Kinds::of(known.facts.ty).meets(Kinds::of(ty)));
        if !fits || !typed {
            let message = format!("`{name}` is called otherwise.");
            let error = Error::new("expr.wrong_arguments", self.at(at), message, "wrong arguments");
            return self.refuse(error.with_help(format!("write {usage}: texts, and a status of 400 to 499")));
        }
        if let Some(Known { literal: Some(Value::Int(status)), .. }) = known.get(1)
            && (!(400..500).contains(status) || *status == 401)
        {
            let message = format!("`deny` answers with a status of 400 to 499 other than 401; this is {status}.");
            let error = Error::new("expr.wrong_arguments", self.at(at), message, "no status of a denial");
            return self.refuse(error.with_help("to break the request with a 500 write fail(code, detail)"));
        }
        match known.first() {
            Some(Known { literal: Some(Value::Text(code)), .. }) => {
                let range = args.first().map_or(0..0, |arg| self.source.literal(arg.start_position()));
                self.codes.push((code.to_string(), range));
            }
            _ => {
                let error = not_literal(name, "a code", self.at(at));
                return self.refuse(error);
            }
        }
        let text = known.get(2).or(known.first()).map_or(Mark::None, |known| known.facts.mark);
        if deny && matches!(text, Mark::Secret | Mark::Internal)
            || !deny && known.iter().any(|k| k.facts.mark.is_credential())
        {
            let message = "What is denied or recorded here may be made of a secret.";
            let error = Error::new("expr.marked_text", self.at(at), message, "a secret may flow in here");
            return self.refuse(error.with_help("write literal texts; a text may be made of what is not secret"));
        }
        let facts = mixed(Facts::policy(Type::Any), &known);
        self.put(place, args, if deny { Action::Deny } else { Action::Fail }, facts, at);
        Known::policy(Type::Any)
    }

    fn function(
        &mut self,
        place: &mut Expr,
        function: &'static Function,
        (args, known): (Vec<Expr>, Vec<Known>),
        at: Position,
    ) -> Known {
        if known.len() != function.accepts.len() {
            let error = wrong_count(function, self.at(at), known.len());
            return self.refuse(error);
        }
        for ((argument, accepts), expr) in known.iter().zip(function.accepts).zip(&args) {
            if !Kinds::of(argument.facts.ty).meets(*accepts) {
                let error = wrong_type(function, self.at(expr.start_position()), *accepts, argument.facts.ty);
                return self.refuse(error);
            }
        }
        let facts = mixed(Facts::policy(result(function.returns, &known)), &known);
        let marked = facts.mark.is_credential();
        let (hay, others) = (known.first().map(|hay| hay.facts.ty), known.iter().skip(1).map(|known| known.facts));
        let searches = facts.mark == Mark::Secret && is_search(function.name, hay, others);
        if searches || marked && matches!(function.name, "min" | "max") {
            let error = marked_order(self.at(at));
            return self.refuse(error);
        }
        let action = match function.run {
            Run::Pure(_) => Action::Pure(function),
            Run::Now => Action::Now,
            Run::Random | Run::Uuid | Run::RandomHex => {
                self.random = true;
                match function.run {
                    Run::Random => Action::Random,
                    Run::Uuid => Action::Uuid,
                    _ => Action::RandomHex,
                }
            }
            Run::Exists => Action::Exists,
            Run::Contains => {
                let (args, known): (Vec<_>, Vec<_>) = args.into_iter().rev().zip(known.into_iter().rev()).unzip();
                return self.membership(place, args, &known, at);
            }
            Run::Matches => match self.pattern(&known, at) {
                Ok(action) => action,
                Err(error) => return self.refuse(error),
            },
            Run::InCidr => match self.networks(&known, at) {
                Ok(action) => action,
                Err(error) => return self.refuse(error),
            },
            Run::Scope => return self.named_value(place, function, &known, at),
        };
        self.put(place, args, action, facts, at);
        Known::of(if function.tests { Facts { mark: Mark::None, ..facts } } else { facts })
    }

    fn pattern(&self, known: &[Known], at: Position) -> Result<Action, Error> {
        if known.iter().any(|known| known.facts.mark == Mark::Secret) {
            return Err(marked_order(self.at(at)));
        }
        let Some(Known { literal: Some(Value::Text(pattern)), .. }) = known.get(1) else {
            return Err(not_literal("matches", "a regular expression", self.at(at)));
        };
        match regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build() {
            Ok(regex) => Ok(Action::Matches(Box::new(regex))),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let message = format!("This is no regular expression that can be used: {reason}.");
                Err(Error::new("expr.bad_regex", self.at(at), message, "does not compile"))
            }
        }
    }

    fn networks(&self, known: &[Known], at: Position) -> Result<Action, Error> {
        if known.iter().any(|known| known.facts.mark.is_credential()) {
            return Err(marked_order(self.at(at)));
        }
        let Some(list) = known.get(1) else { return Ok(Action::InNetworkList) };
        let texts: Vec<&Value> = match &list.literal {
            Some(Value::List(list)) => list.iter().collect(),
            Some(text) => vec![text],
            None if list.facts.ty == Type::Text => return Err(not_literal("in_cidr", "a network", self.at(at))),
            None => return Ok(Action::InNetworkList),
        };
        let networks = texts.into_iter().map(|value| value.view().as_text().and_then(network));
        match networks.collect::<Option<Vec<_>>>() {
            Some(networks) => Ok(Action::InNetworks(networks.into())),
            None => {
                let error = Error::new(
                    "expr.bad_network",
                    self.at(at),
                    "Something here is no network in CIDR notation.",
                    "not a network",
                );
                Err(error.with_help("write 10.0.0.0/8, 2001:db8::/32 or a single address"))
            }
        }
    }

    /// `secret('name')` and `list('name')`.
    fn named_value(&mut self, place: &mut Expr, function: &Function, known: &[Known], at: Position) -> Known {
        let name = known.first().filter(|name| !name.facts.mark.is_credential());
        let Some(Known { literal: Some(Value::Text(name)), .. }) = name else {
            let error = not_literal(function.name, "a name", self.at(at));
            return self.refuse(error);
        };
        match self.scope.constant(function.name, name) {
            Ok(constant) => {
                self.read = self.read.mixed(constant.facts);
                self.put(place, Vec::new(), Action::Const(of_value(&constant.value)), constant.facts, at);
                Known { facts: constant.facts, literal: Some(constant.value) }
            }
            Err(unresolved) => {
                let error = unresolved_at(unresolved, self.at(at));
                self.refuse(error)
            }
        }
    }
}

fn test(sign: &str) -> Option<Test> {
    Some(match sign {
        "==" => Test::Equal,
        "!=" => Test::Unequal,
        "<" => Test::Less,
        "<=" => Test::LessOrEqual,
        ">" => Test::Greater,
        ">=" => Test::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(sign: &str) -> Option<Operator> {
    Some(match sign {
        "+" => Operator::Add,
        "-" => Operator::Subtract,
        "*" => Operator::Multiply,
        "/" => Operator::Divide,
        "%" => Operator::Remainder,
        _ => return None,
    })
}

fn result(returns: Returns, arguments: &[Known]) -> Type {
    let mut types = arguments.iter().map(|argument| argument.facts.ty);
    match returns {
        Returns::Is(ty) => ty,
        Returns::Number if types.clone().all(|ty| ty == Type::Int) => Type::Int,
        Returns::Number if types.any(|ty| ty == Type::Float) => Type::Float,
        Returns::Number | Returns::Scope => Type::Any,
        Returns::Elements => Type::List(match types.next() {
            Some(Type::Map(element)) => element,
            Some(Type::Json) => Element::Json,
            _ => Element::Any,
        }),
    }
}
