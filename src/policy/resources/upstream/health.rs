//! `health:` of an upstream: how its targets are checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::source::units::parse_digits;
use crate::source::{DurationValue, Literal, OneOrMany, Spanned};
use crate::upstream::{Check, Patience};

/// What `every` may be.
const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// What `healthy_after` and `unhealthy_after` may be.
const AFTER: RangeInclusive<u32> = 1..=100;
const CODE: &str = "policy.bad_value";
const HELP: &str = "write `health: { path: /health, every: 10s, timeout: 2s, expect: 200 }`";
const EVERY_DEFAULT: Duration = Duration::from_secs(10);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Checks of the targets, made once for the whole process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthDoc {
    /// What is asked for with GET, such as `/health`.
    path: Literal,
    /// From check to check, from 100ms to 1h; 10s without it.
    #[serde(default)]
    every: Option<DurationValue>,
    /// For the whole answer, at most `every`; 2s without it, or `every` where that is less.
    #[serde(default)]
    timeout: Option<DurationValue>,
    /// Checks in a row that have to pass before calls go there again.
    #[serde(default = "two")]
    healthy_after: Spanned<u32>,
    /// Checks in a row that have to fail before no calls go there. The first check of all decides alone.
    #[serde(default = "three")]
    unhealthy_after: Spanned<u32>,
    /// Status of the answer, or several; 200 without it.
    #[serde(default)]
    expect: Option<OneOrMany<Literal>>,
}

fn two() -> Spanned<u32> {
    2.into()
}

fn three() -> Spanned<u32> {
    3.into()
}

impl HealthDoc {
    pub(super) fn check(&self, cx: &mut Compile<'_>) -> Option<Check> {
        let path = self.path(cx);
        let every = self.every.as_ref().map_or(EVERY_DEFAULT, |every| every.duration);
        if let Some(written) = self.every.filter(|_| !EVERY.contains(&every)) {
            return cx.refuse(CODE, written.span, "`every` is from 100ms to 1h", HELP);
        }
        let timeout = self.timeout.as_ref().map_or(TIMEOUT_DEFAULT.min(every), |timeout| timeout.duration);
        if let Some(written) = self.timeout.filter(|_| timeout > every || timeout.is_zero()) {
            return cx.refuse(CODE, written.span, "`timeout` is above 0 and at most `every`", HELP);
        }
        if let Some(written) = [self.healthy_after, self.unhealthy_after].iter().find(|one| !AFTER.contains(&one.value))
        {
            return cx.refuse(CODE, written.span, "`healthy_after` and `unhealthy_after` are from 1 to 100", HELP);
        }
        let patience =
            Patience { healthy_after: self.healthy_after.value, unhealthy_after: self.unhealthy_after.value };
        let expect = self.expect(cx)?;
        Some(Check { path: path?, every, timeout, patience, expect: expect.into() })
    }

    fn path(&self, cx: &mut Compile<'_>) -> Option<PathAndQuery> {
        let text = cx.literal(&self.path)?;
        let path = text.parse::<PathAndQuery>().ok().filter(|_| text.starts_with('/') && !text.contains('#'));
        path.or_else(|| cx.refuse(CODE, self.path.span(), format!("`{text}` is no path"), HELP))
    }

    fn expect(&self, cx: &mut Compile<'_>) -> Option<Vec<StatusCode>> {
        let mut expect = Vec::new();
        for literal in self.expect.iter().flat_map(|list| list.iter()) {
            let word = cx.literal(literal)?;
            match parse_digits::<u16>(&word).filter(|number| (200..600).contains(number)).map(StatusCode::from_u16) {
                Some(Ok(status)) => expect.push(status),
                _ => return cx.refuse(CODE, literal.span(), format!("`{word}` is no status of an answer"), HELP),
            }
        }
        if expect.is_empty() {
            expect.push(StatusCode::OK);
        }
        Some(expect)
    }
}
