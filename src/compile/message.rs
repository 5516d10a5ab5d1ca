//! Which message a step means.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::compile::context::Part;
use crate::compile::flow::Happened;
use crate::engine::read::Side;
use crate::source::Span;

/// The `message:` parameter.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// What goes upstream.
    Request,
    /// What came from upstream, or the answer at hand.
    Response,
    /// Whatever leaves at the end, faults included.
    Answer,
}

impl Compile<'_> {
    /// The message that a step means: the request before `route`, the response after it. Where only some
    /// ways have routed, the policy has to say it.
    pub fn side(&mut self, written: Option<Message>, span: Span) -> Option<Side> {
        let side = self.side_of(written, span)?;
        self.note_message(match side {
            Side::Request => "request",
            Side::Response => "response",
        });
        Some(side)
    }

    /// The same for steps that may also mean whatever leaves, which is `None`.
    pub fn side_or_answer(&mut self, written: Option<Message>, span: Span) -> Option<Option<Side>> {
        if written != Some(Message::Answer) {
            return Some(Some(self.side(written, span)?));
        }
        self.note_message("answer");
        Some(None)
    }

    /// For `check --explain`.
    fn note_message(&mut self, message: &'static str) {
        if let Some(step) = self.steps.get_mut(usize::from(self.current)) {
            step.explained.message = Some(message);
        }
    }

    fn side_of(&mut self, written: Option<Message>, span: Span) -> Option<Side> {
        match written {
            Some(Message::Request) => Some(Side::Request),
            Some(Message::Response) => self.response_exists(span).then_some(Side::Response),
            Some(Message::Answer) => {
                let help = "write `message: request` or `message: response`";
                self.refuse("policy.bad_value", span, "`message: answer` is only for header steps", help)
            }
            None if self.operator().is_some() => {
                let message = "an assertion can stand before a `route` and behind one: request or response?";
                let help = "write `message: request` or `message: response`";
                self.refuse("policy.message_unclear", span, message, help)
            }
            None if self.part != Part::Main => Some(Side::Response),
            None => match self.flow.routed {
                Happened::Never => Some(Side::Request),
                Happened::Always => Some(Side::Response),
                Happened::OnSomeWays => {
                    let message = "only some of the ways that lead here have routed: request or response?";
                    self.refuse(
                        "policy.message_unclear",
                        span,
                        message,
                        "write `message: request` or `message: response`",
                    )
                }
            },
        }
    }

    fn response_exists(&mut self, span: Span) -> bool {
        if self.part == Part::Main && self.flow.routed == Happened::Never {
            let message = "there is no response here: no `route` stands before this step";
            self.refuse::<()>("policy.no_response", span, message, "move the step behind the `route`");
            return false;
        }
        true
    }
}
