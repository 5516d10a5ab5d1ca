//! The `status:` of a denial that the operator chooses.

use http::StatusCode;

use crate::compile::Compile;
use crate::source::Literal;
use crate::source::units::parse_digits;

impl Compile<'_> {
    /// A status from 400 to 499, but none that has to carry a challenge.
    pub fn denied_status(&mut self, literal: &Literal) -> Option<StatusCode> {
        let word = self.literal(literal)?;
        let status = parse_digits::<u16>(&word).filter(|number| (400..500).contains(number));
        match status.and_then(|number| StatusCode::from_u16(number).ok()) {
            Some(StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                let message =
                    format!("a {word} has to carry a challenge (RFC 9110 §15.5.2), which only authentication has");
                self.refuse("policy.bad_value", literal.span(), message, "write 403")
            }
            Some(status) => Some(status),
            None => {
                let message = format!("`{word}` is no status of a denial: a number from 400 to 499 is");
                self.refuse("policy.bad_value", literal.span(), message, "write `status: 403`")
            }
        }
    }
}
