//! Record rules of a service (`scrub`): applied to whatever of a request is written down.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::audit::record::Record;
use crate::engine::exchange::Exchange;
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
            scrub.rules.text(text);
        }
    }

    /// The same for the values beside it.
    pub fn scrub_fields(&self, fields: &mut Json) {
        for scrub in self.compiled(&self.snapshot).scrubs.iter().filter(|scrub| scrub.log) {
            if scrub.rules.json(fields).is_err() {
                *fields = UNSCANNABLE.into();
            }
        }
    }
}

fn scrub_record(rules: &Rules, record: &mut Record) {
    rules.text(&mut record.path);
    for text in [&mut record.detail, &mut record.message].into_iter().flatten() {
        rules.text(text);
    }
    for noted in [&mut record.caught, &mut record.would_deny, &mut record.would_break].into_iter().flatten() {
        rules.text(&mut noted.detail);
    }
    for (name, value) in &mut record.fields {
        field(rules, name, value);
    }
}

fn field(rules: &Rules, name: &str, value: &mut Json) {
    match (name, &mut *value) {
        ("request_headers" | "response_headers", Json::Object(members)) => rules.header_members(members),
        ("request_body" | "response_body", Json::String(text)) => return saved_body(rules, text),
        _ => {}
    }
    if rules.json(value).is_err() {
        *value = UNSCANNABLE.into();
    }
}

/// A body that `audit` saved: a document, a form, or a text.
fn saved_body(rules: &Rules, text: &mut String) {
    if let Ok(mut json) = serde_json::from_str::<Json>(text) {
        match rules.json(&mut json) {
            Ok(0) => {}
            Ok(_) => *text = json.to_string(),
            Err(_) => UNSCANNABLE.clone_into(text),
        }
    } else if rules.read_json() && text.trim_start().starts_with(['{', '[']) {
        UNSCANNABLE.clone_into(text);
    } else {
        if let Some((scrubbed, _)) = rules.pairs(text, Pairs::Form).filter(|_| text.contains('=')) {
            *text = scrubbed;
        }
        rules.text(text);
    }
}
