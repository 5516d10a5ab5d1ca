//! A finished request as one JSON line (`docs/trace.md`): its record, and what its steps did or, of one that failed
//! while nobody watched, which step it was and the variables at that time.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};

use crate::audit::record::Record;
use crate::audit::ring::LINE_BYTES_MAX as FAILED_BYTES_MAX;
use crate::engine::exchange::Exchange;
use crate::engine::program::StepMeta;
use crate::engine::snapshot::Service;
use crate::engine::trace::show::{self, Presented};
use crate::engine::trace::{Traced, TracedVerdict, Traces};
use crate::engine::watch::Wanted;
use crate::fault::Kind;

/// Bytes of one live trace.
const TRACE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a record's texts, where the whole record would be too long.
const TEXT_BYTES_MAX: usize = 1024;
/// Room for what ends a line.
const END_BYTES: usize = 64;
/// Number of the format.
const FORMAT: u8 = 1;

/// Sends a finished request to those who want it.
pub(in crate::engine) fn tell(x: &Exchange, record: &Record, wanted: Wanted) {
    let Some(trace) = &x.trace else { return };
    let line = live(x, &x.traced_record(record), &trace.borrow());
    x.worker.shared.watchers.tell(wanted, line);
}

/// Keeps a request that was denied or broke. One whose client has left has not failed.
pub(in crate::engine) fn keep_failed(x: &Exchange, record: &Record) {
    let kind = match &x.fault {
        Some(fault) => fault.kind,
        None if record.outcome == "broken" => Kind::Broken,
        None => return,
    };
    let (worker, now_ns) = (&x.worker, x.worker.clock.mono_ns());
    worker.shared.watchers.failed.keep(worker.index, kind, now_ns, || failed(x, &x.traced_record(record)));
}

/// The line of a request that ended before there was an exchange.
pub fn refused(record: &Record) -> String {
    Line::new(record, FAILED_BYTES_MAX).end(false)
}

fn live(x: &Exchange, record: &Record, traces: &Traces) -> String {
    let service = x.compiled(&x.snapshot);
    let before = traces.live.as_ref().and_then(|live| live.presented.as_ref());
    let presented = before.map_or_else(|| Cow::Owned(Presented::of(x)), Cow::Borrowed);
    let presented = &*presented;
    let mut cut = traces.live.as_ref().is_some_and(|live| live.cut);
    let mut line = Line::new(record, TRACE_BYTES_MAX);
    line.text.push_str(",\"steps\":[");
    let (mut first, mut entered) = (true, Vec::new());
    'lines: for traced in &traces.lines {
        let Some(meta) = service.steps.get(usize::from(traced.step)) else { continue };
        for outer in around(meta, service) {
            if !entered.contains(&&*outer.path) {
                entered.push(&*outer.path);
                let mut members = head(outer);
                members.insert("verdict".into(), "entered".into());
                if !line.element(members, &mut first) {
                    cut = true;
                    break 'lines;
                }
            }
        }
        if !line.element(step(x, meta, traced, service, presented), &mut first) {
            cut = true;
            break;
        }
        entered.push(&*meta.path);
    }
    line.text.push(']');
    line.end(cut)
}

/// Composites and includes around a step, the outermost first.
fn around<'s>(meta: &'s StepMeta, service: &'s Service) -> impl Iterator<Item = &'s StepMeta> {
    let dots = meta.path.match_indices('.').map(|(at, _)| at);
    let prefixes = dots.filter_map(|at| meta.path.get(..at));
    prefixes.filter_map(|prefix| service.steps.iter().find(|outer| *outer.path == *prefix))
}

fn head(meta: &StepMeta) -> Map<String, Json> {
    let mut members = Map::new();
    for (name, text) in
        [("path", &*meta.path), ("name", &*meta.name), ("assertion", &*meta.assertion), ("place", &*meta.place)]
    {
        members.insert(name.into(), text.into());
    }
    members
}

fn step(x: &Exchange, meta: &StepMeta, traced: &Traced, service: &Service, presented: &Presented) -> Map<String, Json> {
    let mut members = head(meta);
    let (word, code) = match &traced.verdict {
        TracedVerdict::Passed => ("passed", None),
        TracedVerdict::Ended(by) => ("ended", Some(("by", by.word()))),
        TracedVerdict::Entered => ("entered", None),
        TracedVerdict::Round => ("round", None),
        TracedVerdict::Denied(code) => ("denied", Some(("fault", code.as_str()))),
        TracedVerdict::Broken(code) => ("broken", Some(("fault", code.as_str()))),
        TracedVerdict::WouldDeny(code) => ("would_deny", Some(("fault", code.as_str()))),
        TracedVerdict::WouldBreak(code) => ("would_break", Some(("fault", code.as_str()))),
        TracedVerdict::Skipped => ("skipped", None),
    };
    members.insert("verdict".into(), word.into());
    members.extend(code.map(|(name, code)| (name.to_owned(), code.into())));
    members.insert("at_ns".into(), traced.began_ns.saturating_sub(x.started_ns).into());
    members.insert("took_ns".into(), traced.at_ns.saturating_sub(traced.began_ns).into());
    let names = &service.names;
    let read: Map<String, Json> =
        meta.reads.iter().zip(&traced.read).map(|(read, value)| (show::name(read, names), value.clone())).collect();
    let mut set = Map::new();
    for (slot, identity) in &traced.identified {
        let name = names.identities.iter().find(|(_, known)| known == slot).map_or("?", |(name, _)| name);
        set.insert(name.to_owned(), show::identity(identity.as_deref(), presented));
    }
    for (slot, value) in &traced.changed {
        let name = names.variables.iter().find(|(_, known)| known == slot).map_or("?", |(name, _)| name);
        set.insert(name.to_owned(), show::value(&value.view(), names.marked.contains(slot), presented));
    }
    for (name, values) in [("read", read), ("set", set)] {
        if !values.is_empty() {
            members.insert(name.into(), Json::Object(values));
        }
    }
    members
}

fn failed(x: &Exchange, record: &Record) -> String {
    let service = x.compiled(&x.snapshot);
    let mut line = Line::new(record, FAILED_BYTES_MAX);
    let meta = x.fault.as_ref().and_then(|fault| fault.step).and_then(|step| service.steps.get(usize::from(step)));
    if let Some(meta) = meta {
        line.text.push_str(&format!(",\"failed_step\":{}", Json::Object(head(meta))));
    }
    let presented = Presented::of(x);
    let (mut first, mut cut) = (true, false);
    line.text.push_str(",\"variables\":{");
    for (name, slot) in &service.names.variables {
        let Some(value) = x.failed_vars.get(usize::from(slot.0)) else { continue };
        let shown = show::value(&value.view(), service.names.marked.contains(slot), &presented);
        if !shown.is_null() && !line.member(name, &shown, &mut first) {
            cut = true;
            break;
        }
    }
    line.text.push('}');
    line.end(cut)
}

/// A line while it is made.
struct Line {
    text: String,
    bytes_max: usize,
}

impl Line {
    fn new(record: &Record, bytes_max: usize) -> Line {
        let mut text = format!("{{\"trace\":{FORMAT},\"record\":");
        let start = text.len();
        record.write_line(&mut text);
        if text.len() > bytes_max / 2 {
            text.truncate(start);
            shortened(record).write_line(&mut text);
        }
        text.truncate(text.trim_end().len());
        Line { text, bytes_max }
    }

    /// Adds an element of the list that is open, unless it finds no room.
    fn element(&mut self, members: Map<String, Json>, first: &mut bool) -> bool {
        let element = Json::Object(members).to_string();
        self.piece(&element, first)
    }

    /// Adds a member of the object that is open, unless it finds no room.
    fn member(&mut self, name: &str, value: &Json, first: &mut bool) -> bool {
        let member = format!("{}:{value}", json!(name));
        self.piece(&member, first)
    }

    fn piece(&mut self, piece: &str, first: &mut bool) -> bool {
        if self.text.len() + piece.len() + END_BYTES > self.bytes_max {
            return false;
        }
        if !std::mem::take(first) {
            self.text.push(',');
        }
        self.text.push_str(piece);
        true
    }

    fn end(mut self, cut: bool) -> String {
        self.text.push_str(if cut { ",\"cut\":true}\n" } else { "}\n" });
        self.text
    }
}

/// A record without what steps have added, its texts cut.
fn shortened(record: &Record) -> Record {
    let cut = |text: &str| text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().to_owned();
    Record {
        path: cut(&record.path),
        host: record.host.as_deref().map(|host| cut(host).into()),
        detail: record.detail.as_deref().map(cut),
        message: None,
        fields: Vec::new(),
        ..record.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_record_is_shortened_and_the_line_stays_json_within_its_bound() {
        let long = "ä".repeat(40_000);
        let record = Record {
            request_id: "r".into(),
            path: long.clone(),
            detail: Some(long.clone()),
            fields: vec![("all".into(), Json::String(long))],
            ..Record::default()
        };
        let line = refused(&record);
        assert!(line.len() < FAILED_BYTES_MAX / 2, "{}", line.len());
        let json: Json = serde_json::from_str(&line).unwrap();
        assert_eq!((json["trace"].as_u64(), json["record"]["request_id"].as_str()), (Some(1), Some("r")));
    }

    #[test]
    fn what_finds_no_room_is_left_out() {
        let mut line = Line::new(&Record::default(), 1000);
        let (mut first, mut taken) = (true, 0);
        line.text.push_str(",\"variables\":{");
        while line.member(&format!("v{taken}"), &json!("x".repeat(50)), &mut first) {
            taken += 1;
        }
        line.text.push('}');
        let line = line.end(true);
        assert!(taken > 5 && line.len() <= 1000, "{taken} {}", line.len());
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap()["cut"], true);
    }
}
