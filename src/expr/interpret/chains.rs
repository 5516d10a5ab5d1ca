//! Paths and members of an interpreted text.
//!
//! The static beginning of a path is resolved as natively: to a variable of the policy and members of its value, which
//! are walked before the run. What is computed (`list[i]`) or hangs on a local is walked during it.

use rhai::{ASTFlags, Expr, FnCallExpr, Position};

use crate::engine::value::{Facts, Type, with_article};
use crate::expr::check::{no_member, unresolved_at};
use crate::expr::interpret::lower::{Form, Known, Lower, OUT};
use crate::expr::interpret::plan::{Action, Input, Link, PUSH};
use crate::expr::interpret::value::of_value;
use crate::expr::narrow::Member;
use crate::expr::parse::Step;
use crate::expr::suggest::nearest;
use crate::expr::{Error, Kinds, Resolved, Segment};

/// One step of a chain as it is written.
enum Part {
    /// `.name`, `["key"]`, `[0]`.
    Static(Step),
    /// `[expression]`.
    Computed(Expr),
    /// `.name(arguments)`.
    Call(Box<FnCallExpr>, Position),
}

impl Lower<'_> {
    /// A variable, with whatever follows it.
    pub fn chain(&mut self, expr: &mut Expr) -> Known {
        if self.ends_in_push(expr) {
            return self.push(expr);
        }
        let at = expr.start_position();
        let (mut base, parts) = self.flatten(std::mem::replace(expr, Expr::Unit(at)));
        let mut parts = parts.into_iter().peekable();
        let mut known = match &base {
            Expr::Variable(variable, ..) if !self.is_local(&base) => {
                let mut steps = vec![Step { name: variable.1.to_string(), index: None, at: self.at(at) }];
                while let Some(Part::Static(step)) = parts.next_if(|part| matches!(part, Part::Static(_))) {
                    steps.push(step);
                }
                self.path(&mut base, &steps, at)
            }
            Expr::Variable(..) => self.anything(),
            _ => self.expr(&mut base),
        };
        while parts.peek().is_some() {
            let (mut links, mut inputs) = (Vec::new(), vec![std::mem::replace(&mut base, Expr::Unit(at))]);
            while let Some(part) = parts.next_if(|part| !matches!(part, Part::Call(..))) {
                known = self.link(part, known, &mut links, &mut inputs);
            }
            match links.is_empty() {
                true => base = inputs.pop().unwrap_or(Expr::Unit(at)),
                false => self.put(&mut base, inputs, Action::Chain(links.into()), known.facts, at),
            }
            if let Some(Part::Call(mut call, at)) = parts.next() {
                call.args.insert(0, std::mem::replace(&mut base, Expr::Unit(at)));
                self.receiver = Some(known);
                known = self.call(&mut base, *call, at);
                self.receiver = None;
            }
        }
        *expr = base;
        known
    }

    fn link(&mut self, part: Part, base: Known, links: &mut Vec<Link>, inputs: &mut Vec<Expr>) -> Known {
        let (ty, index) = (base.facts.ty, matches!(&part, Part::Computed(_)));
        match part {
            Part::Static(step) => {
                let ty = match (ty, step.index) {
                    (Type::Any, _) => Type::Any,
                    (Type::Json, _) => Type::Json,
                    (Type::Map(element), None) | (Type::List(element), Some(_)) => element.ty(),
                    (ty, _) => return self.refuse(no_member(ty, &step)),
                };
                links.push(Link::Member(member(&step)));
                Known::of(Facts { ty, absent: true, ..base.facts })
            }
            Part::Computed(mut key) => {
                let at = key.start_position();
                let key_known = self.expr(&mut key);
                let (ty, wanted) = match ty {
                    Type::Map(element) => (element.ty(), Kinds::TEXT),
                    Type::List(element) => (element.ty(), Kinds::INT),
                    open @ (Type::Any | Type::Json) => (open, Kinds::TEXT.or(Kinds::INT)),
                    other => {
                        let step = Step { name: String::new(), index: None, at: self.at(at) };
                        return self.refuse(no_member(other, &step));
                    }
                };
                let key_type = key_known.facts.ty;
                if index && !Kinds::of(key_type).meets(wanted) {
                    let message = format!(
                        "A {} is indexed by {}; this is {}.",
                        base.facts.ty.word(),
                        wanted.words(),
                        with_article(key_type.word())
                    );
                    let error = Error::new("expr.type_mismatch", self.at(at), message, key_type.word());
                    return self.refuse(error);
                }
                links.push(Link::Input(inputs.len()));
                inputs.push(key);
                Known::of(Facts { ty, absent: true, ..base.facts }.mixed(key_known.facts))
            }
            Part::Call(..) => base,
        }
    }

    /// A variable of the policy and constant members of it.
    fn path(&mut self, place: &mut Expr, steps: &[Step], at: Position) -> Known {
        let segments: Vec<Segment<'_>> =
            steps.iter().map(|step| Segment { name: &step.name, index: step.index, at: step.at.clone() }).collect();
        let resolved = match self.scope.resolve(&segments) {
            Ok(resolved) => resolved,
            Err(unresolved) => {
                let range = steps.get(unresolved.at_segment).or(steps.last()).map_or(0..0, |step| step.at.clone());
                let mut error = unresolved_at(unresolved, range);
                let name = steps.first().map_or("", |step| &step.name);
                if let Some(near) = nearest(name, self.declared.iter().map(|name| name.as_str()))
                    && error.code.ends_with("unknown_variable")
                    && steps.first().is_some_and(|first| first.at == error.at)
                {
                    error.help = Some(format!("did you mean `{near}`?"));
                }
                return self.refuse(error);
            }
        };
        let (facts, used) = match &resolved {
            Resolved::Read { facts, used, .. } | Resolved::Constant { facts, used, .. } => (*facts, *used),
        };
        let rest = steps.get(used.max(1)..).unwrap_or_default();
        let mut facts = facts;
        for step in rest {
            let ty = match (facts.ty, step.index) {
                (Type::Any, _) => Type::Any,
                (Type::Json, _) => Type::Json,
                (Type::Map(element), None) | (Type::List(element), Some(_)) => element.ty(),
                (ty, _) => return self.refuse(no_member(ty, step)),
            };
            facts = Facts { ty, absent: true, ..facts };
        }
        self.read = self.read.mixed(facts);
        let members: Vec<Member> = rest.iter().map(member).collect();
        match resolved {
            Resolved::Constant { value, .. } => {
                let value = members.iter().fold(value, |value, member| {
                    crate::expr::interpret::value::step(value.view(), member).into_value()
                });
                self.put(place, Vec::new(), Action::Const(of_value(&value)), facts, at);
                Known { facts, literal: Some(value) }
            }
            Resolved::Read { read, .. } => {
                if facts.absent && self.scope.proven(&read, &members) {
                    facts.absent = false;
                }
                let input = Input { read, members: members.into() };
                let index = self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                    self.inputs.push(input);
                    self.inputs.len() - 1
                });
                self.put(place, Vec::new(), Action::Input(index), facts, at);
                Known::of(facts)
            }
        }
    }

    /// Whether a variable is one of the text's own.
    fn is_local(&self, expr: &Expr) -> bool {
        let Expr::Variable(variable, short, _) = expr else { return false };
        let name = &variable.1;
        if name == OUT && self.form != Form::Expression {
            return true;
        }
        short.is_some() || variable.0.is_some() || (self.declared.contains(name) && self.parameters.contains(name))
    }

    /// The left side of an assignment: a local, or a member of one.
    pub fn target(&mut self, expr: &mut Expr) {
        let at = expr.start_position();
        if let Form::Script(sets) = self.form
            && let Some((name, range)) = self.result_name(expr)
        {
            if !sets.contains(&name.as_str()) {
                let message = format!("`{name}` is not among the results that `sets` declares.");
                let help = match nearest(&name, sets.iter().copied()) {
                    Some(near) => format!("did you mean `out.{near}`?"),
                    None => format!("declare it beside the code: `sets: {{ {name}: string }}`"),
                };
                self.refuse(Error::new("expr.unknown_result", range, message, "not declared").with_help(help));
            }
            self.inner(expr);
            return;
        }
        let root = root(expr);
        if self.is_local(root) && !matches!(root, Expr::Variable(variable, ..) if variable.1 == OUT) {
            self.inner(expr);
            return;
        }
        let name = match root {
            Expr::Variable(variable, ..) => variable.1.to_string(),
            _ => "this".to_owned(),
        };
        let message =
            format!("`{name}` cannot be changed here: an expression or script only reads the policy's variables.");
        let mut error = Error::new("expr.read_only", self.at(at), message, "read only");
        error.help = Some(match (name.as_str(), self.form) {
            (OUT, Form::Script(_)) => "write `out.NAME = value` with a name of `sets`".to_owned(),
            (_, Form::Script(_)) => {
                "make a local with `let`, set a result with `out.NAME = value`, change messages with steps".to_owned()
            }
            _ => "compare with `==`; make a local with `let`; change messages with steps".to_owned(),
        });
        // A name that means nothing has been reported as such, where `a += b` has read it.
        if !self.errors.iter().any(|known| known.at.start == error.at.start && known.code.ends_with("unknown_variable"))
        {
            self.refuse(error);
        }
    }

    /// The `NAME` of `out.NAME`, with its place.
    pub fn result_name(&self, expr: &Expr) -> Option<(String, std::ops::Range<usize>)> {
        let Expr::Dot(parts, ..) = expr else { return None };
        let Expr::Variable(variable, ..) = &parts.lhs else { return None };
        let name = match &parts.rhs {
            Expr::Property(name, at) => (name.2.to_string(), self.at(*at)),
            Expr::Dot(inner, ..) | Expr::Index(inner, ..) => match &inner.lhs {
                Expr::Property(name, at) => (name.2.to_string(), self.at(*at)),
                _ => return None,
            },
            _ => return None,
        };
        (variable.1 == OUT).then_some(name)
    }

    /// Lowers what is computed inside of a target, and leaves the rest to Rhai.
    fn inner(&mut self, expr: &mut Expr) {
        let indexed = matches!(expr, Expr::Index(..));
        let (Expr::Dot(parts, flags, _) | Expr::Index(parts, flags, _)) = expr else { return };
        let ends = flags.contains(ASTFlags::BREAK);
        if matches!(parts.lhs, Expr::Dot(..) | Expr::Index(..)) {
            self.inner(&mut parts.lhs);
        }
        self.right(&mut parts.rhs, indexed, ends);
    }

    fn right(&mut self, expr: &mut Expr, indexed: bool, ends: bool) {
        match expr {
            Expr::Dot(parts, flags, _) if !(indexed && ends) => {
                let ends = flags.contains(ASTFlags::BREAK);
                self.step_inside(&mut parts.lhs, indexed);
                self.right(&mut parts.rhs, false, ends);
            }
            Expr::Index(parts, flags, _) if !(indexed && ends) => {
                let ends = flags.contains(ASTFlags::BREAK);
                self.step_inside(&mut parts.lhs, indexed);
                self.right(&mut parts.rhs, true, ends);
            }
            expr => self.step_inside(expr, indexed),
        }
    }

    fn step_inside(&mut self, expr: &mut Expr, indexed: bool) {
        match expr {
            Expr::Property(..) => {}
            Expr::MethodCall(call, _) => {
                for argument in &mut call.args {
                    self.expr(argument);
                }
            }
            expr if indexed => {
                self.expr(expr);
            }
            _ => {}
        }
    }

    fn ends_in_push(&self, expr: &Expr) -> bool {
        let mut last = expr;
        while let Expr::Dot(parts, ..) | Expr::Index(parts, ..) = last {
            last = &parts.rhs;
        }
        matches!(last, Expr::MethodCall(call, _) if call.name == PUSH)
    }

    /// `list.push(x)` changes a list of the text's own.
    fn push(&mut self, expr: &mut Expr) -> Known {
        let nothing = Known::of(Facts::policy(Type::Any).maybe());
        let (at, root) = (expr.start_position(), root(expr));
        let own = self.is_local(root);
        if !own {
            let message = "`push` changes a list, and this one belongs to the policy.";
            let error = Error::new("expr.read_only", self.at(at), message, "read only");
            self.refuse(error.with_help("make a list of your own: `let list = []; list.push(x);`"));
            return nothing;
        }
        self.inner(expr);
        nothing
    }

    /// A chain as a base and the steps after it.
    fn flatten(&mut self, expr: Expr) -> (Expr, Vec<Part>) {
        let mut parts = Vec::new();
        let base = self.walk(expr, &mut parts);
        (base, parts)
    }

    fn walk(&mut self, expr: Expr, parts: &mut Vec<Part>) -> Expr {
        match expr {
            Expr::Dot(pair, flags, _) => {
                let base = self.walk(pair.lhs, parts);
                self.tail(pair.rhs, false, flags.contains(ASTFlags::BREAK), parts);
                base
            }
            Expr::Index(pair, flags, _) => {
                let base = self.walk(pair.lhs, parts);
                self.tail(pair.rhs, true, flags.contains(ASTFlags::BREAK), parts);
                base
            }
            base => base,
        }
    }

    fn tail(&mut self, expr: Expr, indexed: bool, ends: bool, parts: &mut Vec<Part>) {
        match expr {
            Expr::Dot(pair, flags, _) if !(indexed && ends) => {
                parts.push(self.part(pair.lhs, indexed));
                self.tail(pair.rhs, false, flags.contains(ASTFlags::BREAK), parts);
            }
            Expr::Index(pair, flags, _) if !(indexed && ends) => {
                parts.push(self.part(pair.lhs, indexed));
                self.tail(pair.rhs, true, flags.contains(ASTFlags::BREAK), parts);
            }
            last => parts.push(self.part(last, indexed)),
        }
    }

    fn part(&mut self, expr: Expr, indexed: bool) -> Part {
        let at = self.at(expr.start_position());
        match expr {
            Expr::Property(name, _) => Part::Static(Step { name: name.2.to_string(), index: None, at }),
            Expr::MethodCall(call, at) => Part::Call(call, at),
            Expr::StringConstant(key, _) if indexed => Part::Static(Step { name: key.to_string(), index: None, at }),
            Expr::IntegerConstant(int, _) if indexed => {
                Part::Static(Step { name: int.to_string(), index: Some(int), at })
            }
            other => Part::Computed(other),
        }
    }
}

fn member(step: &Step) -> Member {
    match step.index {
        Some(position) => Member::Position(position),
        None => Member::Key(step.name.as_str().into()),
    }
}

/// The variable that a chain begins with.
fn root(expr: &Expr) -> &Expr {
    match expr {
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => root(&parts.lhs),
        expr => expr,
    }
}
