//! Record rules of a service (`scrub`): applied to whatever of a request is written down.

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::BASE64;
use http::Method;
use serde_json::Value as Json;

use crate::audit::record::Record;
use crate::engine::exchange::Exchange;
use crate::json::{Bounds, scan};
use crate::scrub::{Pairs, Rules};

/// Stands for what cannot be searched for parts of a document: no JSON, or too large.
pub(in crate::engine) const UNSCANNABLE: &str = "(unscannable)";

/// The rules of one step, and what they hold for.
#[derive(Clone, Debug)]
pub struct RecordRules {
    pub rules: Arc<Rules>,
    pub audit: bool,
    pub log: bool,
    pub trace: bool,
}

impl Exchange {
    /// Scrubs a record before it is kept.
    pub fn scrub_record(&self, record: &mut Record) {
        for scrub in self.compiled(&self.snapshot).scrubs.iter().filter(|scrub| scrub.audit) {
            scrub_record(&scrub.rules, record);
        }
    }

    /// Rules for traces.
    pub(in crate::engine) fn trace_rules(&self) -> Vec<Arc<Rules>> {
        let scrubs = self.compiled(&self.snapshot).scrubs.iter();
        scrubs.filter(|scrub| scrub.trace).map(|scrub| scrub.rules.clone()).collect()
    }

    /// A record as it may stand in a trace.
    pub(in crate::engine) fn traced_record<'r>(&self, record: &'r Record) -> Cow<'r, Record> {
        let mut record = Cow::Borrowed(record);
        for rules in self.trace_rules() {
            scrub_record(&rules, record.to_mut());
        }
        record
    }

    /// Scrubs a text before it stands in the process log.
    pub fn scrub_line(&self, text: &mut String) {
        for scrub in self.compiled(&self.snapshot).scrubs.iter().filter(|scrub| scrub.log) {
            scrub.rules.recorded_text(text);
        }
    }

    /// The same for the values beside it.
    pub fn scrub_fields(&self, fields: &mut Json) {
        for scrub in self.compiled(&self.snapshot).scrubs.iter().filter(|scrub| scrub.log) {
            if scrub.rules.recorded_json(fields).is_err() {
                *fields = UNSCANNABLE.into();
            }
        }
    }
}

fn scrub_record(rules: &Rules, record: &mut Record) {
    rules.recorded_text(&mut record.path);
    for text in [&mut record.detail, &mut record.message].into_iter().flatten() {
        rules.recorded_text(text);
    }
    let target = record.upstream.as_mut().map(|upstream| &mut upstream.target);
    for text in [record.host.as_mut(), record.subject.as_mut(), record.client.as_mut(), target].into_iter().flatten() {
        shared(rules, text);
    }
    if let Some(method) = &record.method {
        let mut text = method.to_string();
        if rules.recorded_text(&mut text) > 0 {
            record.method = Method::from_bytes(text.as_bytes()).ok();
        }
    }
    for noted in [&mut record.caught, &mut record.would_deny, &mut record.would_break].into_iter().flatten() {
        rules.recorded_text(&mut noted.detail);
    }
    for (name, value) in &mut record.fields {
        field(rules, name, value);
    }
}

fn shared(rules: &Rules, text: &mut Arc<str>) {
    let mut scrubbed = text.to_string();
    if rules.recorded_text(&mut scrubbed) > 0 {
        *text = scrubbed.into();
    }
}

fn field(rules: &Rules, name: &str, value: &mut Json) {
    match (name, &mut *value) {
        ("request_headers" | "response_headers", Json::Object(members)) => rules.header_members(members),
        ("request_body" | "response_body", Json::String(text)) => return saved_body(rules, text),
        _ => {}
    }
    if rules.recorded_json(value).is_err() {
        *value = UNSCANNABLE.into();
    }
}

/// A body that `audit` saved: a document, a form, or a text.
fn saved_body(rules: &Rules, text: &mut String) {
    let body = text.trim_start_matches(|char: char| char == '\u{feff}' || char.is_whitespace() || char.is_control());
    match serde_json::from_str::<Json>(body) {
        // Of a member that stands there twice the parser keeps one only.
        Ok(mut json) => match rules.recorded_json(&mut json) {
            Ok(_) if !has_names_once(body) => return UNSCANNABLE.clone_into(text),
            Ok(0) => {}
            Ok(_) => *text = json.to_string(),
            Err(_) => return UNSCANNABLE.clone_into(text),
        },
        Err(_) if is_unscannable(rules, body) => return UNSCANNABLE.clone_into(text),
        Err(_) => {
            if let Some((scrubbed, _)) = rules.pairs(text, Pairs::Form).filter(|_| text.contains('=')) {
                *text = scrubbed;
            }
        }
    }
    rules.recorded_text(text);
}

/// Whether no name stands twice in an object of a document.
fn has_names_once(document: &str) -> bool {
    let bounds = Bounds {
        depth: usize::MAX,
        members: usize::MAX,
        items: usize::MAX,
        name_length: usize::MAX,
        string_length: usize::MAX,
        number_length: usize::MAX,
        nodes: usize::MAX,
        duplicates: false,
    };
    scan(document.as_bytes(), &bounds).is_ok()
}

/// Whether a text that is no document may have parts that the rules look for and cannot see.
fn is_unscannable(rules: &Rules, text: &str) -> bool {
    // A body that is no UTF-8 stands in the record as base64.
    if let Ok(bytes) = BASE64.decode(text.as_bytes()) {
        let mut bytes = String::from_utf8_lossy(&bytes).into_owned();
        if rules.recorded_text(&mut bytes) > 0 || rules.read_json() && bytes.contains(['{', '[']) && bytes.contains(':')
        {
            return true;
        }
    }
    let in_part = || text.starts_with("--") && text.to_ascii_lowercase().contains("content-disposition:");
    let is_open = text.starts_with(['{', '[']);
    is_open && (rules.read_json() || text.contains("\\u")) || rules.read_forms() && in_part()
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::audit::record::{Noted, Upstream};
    use crate::scrub::{What, With};

    const CARD: &str = "4111111111111111";

    #[test]
    fn every_text_from_outside_is_scrubbed() {
        let noted = || vec![Noted { step: None, code: "a.b".into(), detail: format!("of {CARD}") }];
        let target = format!("http://{CARD}.example.org").into();
        let mut record = Record {
            path: "/rec/4111%201111%201111%201111/ann%40example.com".into(),
            method: Some(Method::from_bytes(CARD.as_bytes()).unwrap()),
            host: Some(format!("{CARD}.example.org").into()),
            subject: Some("ann@example.com".into()),
            client: Some(CARD.into()),
            detail: Some(CARD.into()),
            message: Some(format!("{CARD}?a=ann%40example.com")),
            caught: noted(),
            would_deny: noted(),
            would_break: noted(),
            upstream: Some(Upstream { target, status: None, attempts: 1, latency_ms: 1 }),
            fields: vec![("q".into(), serde_json::json!({ CARD: ["a=4111+1111+1111+1111"] }))],
            ..Record::default()
        };
        let regex = What::Regex(Regex::new("[a-z]+@[a-z.]+").unwrap());
        scrub_record(&Rules(vec![(What::Pan, With::Mask), (regex, With::Mask)]), &mut record);
        assert_eq!(record.path, "/rec/4111%2011**%20****%201111/***");
        assert_eq!(record.subject.as_deref(), Some("***"));
        let mut line = String::new();
        record.write_line(&mut line);
        assert!(!line.contains("1111111") && !line.contains("1111+1111"), "{line}");
        assert_eq!(line.matches("411111******1111").count(), 10, "{line}");
    }

    #[test]
    fn a_method_that_is_none_any_more_is_left_out() {
        let method = Some(Method::from_bytes(CARD.as_bytes()).unwrap());
        let mut record = Record { method, ..Record::default() };
        scrub_record(&Rules(vec![(What::Pan, With::Remove)]), &mut record);
        assert_eq!(record.method, None);
    }
}
