//! Whom a step counts, and whose counter it is: the `per:` and `name:` of the steps that limit.
//!
//! A counter belongs to the service, the step's name or place, and whom it counts, not to the text of the file:
//! it survives a reload.

use crate::compile::text::{Sink, TextParam};
use crate::compile::{Compile, Step};
use crate::expr::Place;
use crate::source::{Literal, Text};

/// Whose counter it is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The service; empty where a name is shared between services.
    pub scope: String,
    pub step: String,
    /// What it is called where it is shown.
    pub label: String,
}

impl Compile<'_> {
    /// The counter of a step, shared under `name` where there is one.
    pub fn counter_owner(&mut self, name: Option<&Literal>, step: &Step<'_>) -> Option<Owner> {
        let Some(name) = name else {
            let label = step.name.clone().unwrap_or_else(|| step.kind.name.to_owned());
            return Some(Owner { scope: self.service.to_string(), step: identity(step, self), label });
        };
        let label = self.literal(name)?;
        Some(Owner { scope: String::new(), step: label.clone(), label })
    }

    /// Whom a step counts; a text without a variable would be everybody, which has a word of its own.
    pub fn counted_per(&mut self, text: &Text) -> Option<TextParam> {
        let per = self.text_into(text, Place::Plain, Sink::Inside)?;
        if per.template().known().is_some() {
            let message = "`per` holds no variable: this would be one counter for everybody";
            let help = "write `per: all` where that is meant, else `per: \"${request.client.ip}\"`";
            return self.refuse("policy.bad_value", text.span(), message, help);
        }
        Some(per)
    }
}

/// What tells counters apart: the step's own name, else its place among its siblings and its part.
fn identity(step: &Step<'_>, cx: &Compile<'_>) -> String {
    match &step.name {
        Some(name) => format!("name {name}"),
        None => {
            let path = cx.steps.get(usize::from(cx.current())).map_or("", |meta| meta.path.as_ref());
            format!("path {path}")
        }
    }
}
