//! `split(text, ',')[0]` and `x in split(text, ' ')`, without the list in between: a segment of a path, a scope among
//! others. What they give, and which bounds they keep, is what the list would.

use std::borrow::Cow;
use std::sync::Arc;

use crate::engine::value::Val;
use crate::expr::compare;
use crate::expr::failure::Failure;
use crate::expr::functions::Function;
use crate::expr::interpret::lists::LIST_MAX;
use crate::expr::interpret::plan::{Action, Plan};
use crate::expr::interpret::straight::Node;
use crate::expr::interpret::straight::eval::{Frame, Outcome, answered, failed};
use crate::expr::interpret::straight::got::Got;

/// A call of `split` whose list nobody keeps.
pub(super) struct Split {
    pub plan: Arc<Plan>,
    pub function: &'static Function,
    pub inputs: Box<[Node]>,
}

/// What it was called with.
enum Parts<'e> {
    /// A text with a separator: so short that the list would be within its bounds.
    Few(Cow<'e, str>, Cow<'e, str>),
    /// All others: the list itself.
    List(Val<'e>),
}

impl Split {
    /// The call, where a node is one.
    pub fn of(node: Node) -> Result<Split, Node> {
        match node {
            Node::Work(plan, inputs) => match plan.action {
                Action::Pure(function) if function.name == "split" => Ok(Split { function, plan, inputs }),
                _ => Err(Node::Work(plan, inputs)),
            },
            other => Err(other),
        }
    }
}

impl<'e> Frame<'e> {
    fn parts(&self, split: &'e Split) -> Outcome<Parts<'e>> {
        self.tick(split.plan.at)?;
        match self.arguments(&split.plan, split.function, &split.inputs)? {
            [Val::Text(text), Val::Text(separator), _] if !separator.is_empty() && text.len() < LIST_MAX => {
                Ok(Parts::Few(text, separator))
            }
            values => self.called(&split.plan, split.function, values).map(|list| Parts::List(list.into_val())),
        }
    }

    /// `split(...)[position]`.
    pub fn part(&self, split: &'e Split, position: i64) -> Outcome<Got<'e>> {
        let (text, separator) = match self.parts(split)? {
            Parts::Few(text, separator) => (text, separator),
            Parts::List(list) => return Ok(Got::Val(list.element(position))),
        };
        let part = match text {
            Cow::Borrowed(text) => nth(text, &separator, position).map(Cow::Borrowed),
            Cow::Owned(text) => nth(&text, &separator, position).map(|part| Cow::Owned(part.to_owned())),
        };
        Ok(part.map_or(Got::ABSENT, |part| Got::Val(Val::Text(part))))
    }

    /// `needle in split(...)`.
    pub fn among(&self, plan: &'e Plan, not: bool, needle: &'e Node, split: &'e Split) -> Outcome<Got<'e>> {
        self.tick(plan.at)?;
        let needle = self.own(plan, Some(needle))?.into_val();
        let parts = self.parts(split)?;
        self.timely(plan, &needle)?;
        match (parts, &needle) {
            (Parts::List(list), needle) => {
                self.timely(plan, &list)?;
                answered(plan, compare::contains(&list, needle, plan.marked).map(|found| found != not))
            }
            (Parts::Few(..), Val::Absent) => Ok(Got::bool(not)),
            (Parts::Few(text, separator), Val::Text(needle)) => {
                Ok(Got::bool(text.split(&*separator).any(|part| *part == **needle) != not))
            }
            (Parts::Few(..), other) => Err(failed(plan, Failure::Types(other.type_word(), "string"))),
        }
    }
}

/// The part at a position, from the end where that is negative.
fn nth<'t>(text: &'t str, separator: &str, position: i64) -> Option<&'t str> {
    let position = match usize::try_from(position) {
        Ok(position) => position,
        Err(_) => {
            let back = usize::try_from(position.unsigned_abs()).ok()?;
            text.split(separator).count().checked_sub(back)?
        }
    };
    text.split(separator).nth(position)
}
