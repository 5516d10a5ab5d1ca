//! The filter over a saved request: the same conditions, as far as its record tells what they ask.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::engine::read::{Builtin, IdentityMember, Read, Reader};
use crate::engine::snapshot::Names;
use crate::engine::trace::name;
use crate::engine::value::Val;
use crate::expr::Compiled;
use crate::fault::Fault;

/// A filter that records can answer.
pub(super) struct SavedFilter(Compiled);

impl SavedFilter {
    /// Refuses one that asks for more than a record has.
    pub(super) fn new(compiled: Compiled) -> Result<SavedFilter, String> {
        let unknown = |read: &&Read| !matches!(read, Read::Identity(..)) && member(read).is_none();
        if let Some(read) = compiled.reads.iter().find(unknown) {
            return Err(format!(
                "`{}` is not in what was recorded; filter by `request.method`, `request.host`, `request.path`, \
                 `request.client.ip`, `service.name`, `answer.status`, `fault.code` or `auth.subject`",
                name(read, &Names::default())
            ));
        }
        Ok(SavedFilter(compiled))
    }

    /// Whether it holds; where that cannot be decided the request is shown.
    pub(super) fn holds(&self, line: &Json) -> bool {
        self.0.holds(&Saved(line.get("record").unwrap_or(&Json::Null))).unwrap_or(true)
    }
}

/// The field of a record that has a variable's value.
fn member(read: &Read) -> Option<&'static str> {
    match read {
        Read::Builtin(builtin) => Some(match builtin {
            Builtin::RequestId => "request_id",
            Builtin::RequestTraceId => "trace_id",
            Builtin::RequestMethod | Builtin::OriginalMethod => "method",
            Builtin::RequestHost => "host",
            Builtin::RequestPath | Builtin::OriginalPath => "path",
            Builtin::ClientIp => "client_ip",
            Builtin::ServiceName => "service",
            Builtin::ServiceSnapshot => "snapshot",
            Builtin::AnswerStatus => "status",
            Builtin::FaultCode => "fault",
            Builtin::FaultDetail => "detail",
            Builtin::FaultStep => "step",
            _ => return None,
        }),
        Read::Identity(_, IdentityMember::Subject) => Some("subject"),
        Read::Identity(_, IdentityMember::Scheme) => Some("auth_scheme"),
        Read::Identity(_, IdentityMember::Client) => Some("client"),
        _ => None,
    }
}

struct Saved<'a>(&'a Json);

impl Reader for Saved<'_> {
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        let value = member(read).and_then(|member| self.0.get(member));
        Ok(match value {
            Some(Json::String(text)) => Val::Text(Cow::Borrowed(text)),
            Some(other) => Val::json(other),
            None => Val::Absent,
        })
    }

    fn now(&self) -> Timestamp {
        let time = self.0.get("time").and_then(Json::as_str);
        time.and_then(|time| time.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn random(&self, into: &mut [u8]) {
        into.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compile::filter::filter;

    #[test]
    fn a_saved_request_is_filtered_as_far_as_its_record_tells() {
        let line = json!({ "trace": 1, "record": { "path": "/a", "status": 502, "fault": "route.connect" } });
        for (text, expected) in [
            ("request.path == '/a' && (answer.status ?? 0) >= 500", true),
            ("fault.code == 'route.timeout'", false),
            ("exists(auth.subject)", false),
        ] {
            assert_eq!(SavedFilter::new(filter(text).unwrap()).unwrap().holds(&line), expected, "{text}");
        }
        let why = SavedFilter::new(filter("request.headers.x_a == 'b'").unwrap()).err().unwrap();
        assert!(why.starts_with("`request.headers.x_a` is not in what was recorded"), "{why}");
    }
}
