//! Spans and numbers as OTLP puts them into protocol buffers (OTLP 1.x: `ExportTraceServiceRequest` and
//! `ExportMetricsServiceRequest`), and what an answer says of them. Nothing is sent here.

pub mod protobuf;

use self::protobuf::{Field, Message, find};
use super::metrics::family::{Family, FamilyKind, Point, PointValue};
use super::spans::{Attribute, Span, SpanKind};

/// Values that one request carries; a family of more is told in several.
pub const POINTS_MAX: usize = 5000;

/// Who is telling.
const SCOPE: &str = "gatewright";
const KIND_SERVER: u64 = 2;
const KIND_CLIENT: u64 = 3;
const STATUS_ERROR: u64 = 2;
/// Values count from the start of the process on.
const CUMULATIVE: u64 = 2;

/// The process, as it names itself: texts by their names.
#[derive(Clone, Debug)]
pub struct Resource(pub Vec<(&'static str, String)>);

impl Resource {
    fn write(&self, out: &mut Message) {
        for (name, value) in &self.0 {
            attribute(out, 1, name, |out| out.text(1, value));
        }
    }
}

fn scope(out: &mut Message) {
    out.text(1, SCOPE);
    out.text(2, env!("CARGO_PKG_VERSION"));
}

fn attribute(out: &mut Message, field: u64, name: &str, value: impl FnOnce(&mut Message)) {
    out.message(field, |pair| {
        pair.text(1, name);
        pair.message(2, value);
    });
}

/// An `ExportTraceServiceRequest`.
pub fn traces(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let mut out = Message::default();
    out.message(1, |out| {
        out.message(1, |out| resource.write(out));
        out.message(2, |out| {
            out.message(1, scope);
            spans.iter().for_each(|one| out.message(2, |out| span(one, out)));
        });
    });
    out.0
}

fn span(span: &Span, out: &mut Message) {
    out.bytes(1, &span.trace.0);
    out.bytes(2, &span.id.0);
    out.text(3, span.state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default());
    out.bytes(4, span.parent.as_ref().map_or(&[], |parent| &parent.0));
    out.text(5, &span.name);
    out.varint(6, if span.kind == SpanKind::Server { KIND_SERVER } else { KIND_CLIENT });
    out.fixed64(7, span.begun_ns);
    out.fixed64(8, span.ended_ns);
    for (name, value) in &span.attributes {
        attribute(out, 9, name, |out| match value {
            // The choice of a `oneof` is written also where it is empty.
            Attribute::Text(text) if text.is_empty() => out.message(1, |_| {}),
            Attribute::Text(text) => out.text(1, text),
            Attribute::Whole(number) => out.always(3, number.cast_unsigned()),
        });
    }
    if let Some((trace, id)) = &span.link {
        out.message(13, |out| {
            out.bytes(1, &trace.0);
            out.bytes(2, &id.0);
        });
    }
    if span.failed {
        out.message(15, |out| out.varint(3, STATUS_ERROR));
    }
}

/// When numbers began to count and when they were read, Unix nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub begun_ns: u64,
    pub now_ns: u64,
}

/// As many `ExportMetricsServiceRequest`s as it takes.
pub fn metrics(resource: &Resource, families: &[Family], times: Times) -> Vec<Vec<u8>> {
    let mut requests: Vec<Vec<(&Family, &[Point])>> = Vec::new();
    let mut room = 0;
    for family in families {
        let mut points = family.points.as_slice();
        while !points.is_empty() {
            if room == 0 {
                requests.push(Vec::new());
                room = POINTS_MAX;
            }
            let (fitting, rest) = points.split_at(room.min(points.len()));
            requests.last_mut().into_iter().for_each(|request| request.push((family, fitting)));
            (room, points) = (room - fitting.len(), rest);
        }
    }
    requests.iter().map(|families| request_of(resource, families, times)).collect()
}

fn request_of(resource: &Resource, families: &[(&Family, &[Point])], times: Times) -> Vec<u8> {
    let mut out = Message::default();
    out.message(1, |out| {
        out.message(1, |out| resource.write(out));
        out.message(2, |out| {
            out.message(1, scope);
            families.iter().for_each(|(family, points)| out.message(2, |out| metric(family, points, times, out)));
        });
    });
    out.0
}

fn metric(family: &Family, points: &[Point], times: Times, out: &mut Message) {
    out.text(1, &family.name);
    out.text(2, &family.help);
    let field = match family.kind {
        FamilyKind::Gauge => 5,
        FamilyKind::Counter => 7,
        FamilyKind::Histogram => 9,
    };
    out.message(field, |out| {
        points.iter().for_each(|one| out.message(1, |out| point(one, times, out)));
        if family.kind != FamilyKind::Gauge {
            out.varint(2, CUMULATIVE);
        }
        if family.kind == FamilyKind::Counter {
            out.varint(3, 1); // it never falls
        }
    });
}

fn point(point: &Point, times: Times, out: &mut Message) {
    out.fixed64(2, times.begun_ns);
    out.fixed64(3, times.now_ns);
    let labels = match &point.value {
        PointValue::Whole(value) => {
            out.fixed64(6, *value);
            7
        }
        PointValue::Real(value) => {
            out.double(4, *value);
            7
        }
        PointValue::Histogram { bounds, counts, sum } => {
            out.fixed64(4, counts.iter().sum());
            out.double(5, *sum);
            out.packed(6, counts.iter().copied());
            out.packed(7, bounds.iter().map(|bound| bound.to_bits()));
            9
        }
    };
    for (name, value) in &point.labels {
        attribute(out, labels, name, |out| match value.is_empty() {
            true => out.message(1, |_| {}),
            false => out.text(1, value),
        });
    }
}

/// How many of the spans or values of a request the answer to it says were not taken, and why.
pub fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let Some(Field::Bytes(partial)) = find(answer, 1) else { return None };
    let count = match find(partial, 1) {
        Some(Field::Varint(count)) => count,
        _ => 0,
    };
    let why = match find(partial, 2) {
        Some(Field::Bytes(why)) => String::from_utf8_lossy(why).chars().take(REASON_CHARS_MAX).collect(),
        _ => String::new(),
    };
    (count > 0).then_some((count, why))
}

/// Longest reason that is repeated in the log, in characters.
const REASON_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests;
