//! `compress`: compresses a variable or a body.
//!
//! RFC 1950, RFC 1951, RFC 1952. A response is compressed only where `Accept-Encoding` admits it (RFC 9110
//! §12.5.3), it has no coding yet, and nobody said `no-transform` (RFC 9111 §5.2.2.6); it streams on.

mod negotiate;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use self::negotiate::accepts;
use crate::coding::{self, Deflater, Format};
use crate::compile::message::Message;
use crate::compile::octets::TextForm;
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::encoding::Encoding;
use crate::engine::exchange::Exchange;
use crate::engine::media::Media;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::recode::content_codings;
use crate::engine::run::body_fault;
use crate::engine::value::{Facts, Type, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Diagnostic, Size, Span, Spanned, Text};

/// Input of a value without `max_input`, in bytes.
const VALUE_INPUT: u64 = 10 * 1024 * 1024;
/// Bodies below this are left as they are without `min`, in bytes.
const BODY_MIN: u64 = 1024;
/// The balance of time and size that zlib itself takes.
const LEVEL: u32 = 6;

pub const KIND: Kind = Kind {
    main: Some("format"),
    bodies: "none: it streams; buffer, where `value` reads one",
    sets: &[
        Output {
            name: "compressed.value",
            ty: Type::Any,
            absent: true,
            doc: "With `value`: bytes, or a string where `encoding` names a text form.",
        },
        Output { name: "compressed.size", ty: Type::Int, absent: true, doc: "With `value`: compressed bytes." },
        Output { name: "compressed.original_size", ty: Type::Int, absent: true, doc: "With `value`: bytes before." },
    ],
    faults: &[
        FaultDoc {
            code: "compress.too_large",
            status: 400,
            doc: "The value is larger than `max_input`. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "compress.absent",
            status: 400,
            doc: "`value` is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "A value for a URL",
            yaml: r#"
service: example
match: { path: /pack, methods: [POST] }
policy:
  - { compress: { format: deflate, value: "${request.text}", encoding: base64url }, as: small }
  - decompress: { format: deflate, value: "${small.value}", encoding: base64url }
  - respond: { json: { back: "${decompressed.value ?? ''}", from: "${small.original_size}", to: "${small.size}" } }
tests:
  - name: there and back
    request: { method: POST, text: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa }
    expect:
      status: 200
      json: { back: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, from: 60, to: 6 }
"#,
        },
        Example {
            title: "Answers for whoever takes gzip",
            yaml: r#"
service: example
match: { path: /report }
policy:
  - route: http://127.0.0.1:9000
  - compress: { format: gzip, min: 16B }
tests:
  given: { upstream: [{ answer: { text: "a text that is long enough", headers: { etag: '"1"' } } }] }
  cases:
    - name: taken
      request: { headers: { accept-encoding: "br, gzip;q=0.8" } }
      expect: { status: 200, headers: { content-encoding: gzip, vary: accept-encoding, etag: 'W/"1"' } }
    - name: not taken
      request: { headers: { accept-encoding: "gzip;q=0" } }
      expect:
        status: 200
        text: a text that is long enough
        headers: { content-encoding: { absent: true }, vary: accept-encoding }
"#,
        },
    ],
    ..Kind::of::<Compress>("compress", "Compresses a variable or a body.", Category::Messages)
};

/// Parameters of `compress`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Compress {
    /// `gzip` where it is left out. `deflate` is the raw form, of a value only.
    #[serde(default)]
    format: Option<Spanned<Format>>,
    /// From 1, fast, to 9, small; 6 without it.
    #[serde(default)]
    level: Option<Spanned<u32>>,
    /// Text, or the bytes of a variable. The body of `message` without it.
    #[serde(default)]
    value: Option<Text>,
    /// How the bytes that come out are written.
    #[serde(default)]
    encoding: Option<Spanned<TextForm>>,
    /// Bytes of `value`, 10 MiB without it.
    #[serde(default)]
    max_input: Option<Size>,
    /// Whose body, where `value` is left out.
    #[serde(default)]
    message: Option<Spanned<Message>>,
    /// A response is compressed only where the client's `Accept-Encoding` admits it; so without it.
    #[serde(default)]
    negotiate: Option<Spanned<bool>>,
    /// Bodies that are known to be smaller are left as they are; 1 KiB without it.
    #[serde(default)]
    min: Option<Size>,
}

impl Assertion for Compress {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let level = match self.level {
            Some(level) if !(1..=9).contains(&level.value) => {
                let message = format!("`{}` is no level: 1 to 9 are", level.value);
                return cx.refuse("policy.bad_value", level.span, message, "write `level: 6`");
            }
            level => level.map_or(LEVEL, |level| level.value),
        };
        match &self.value {
            Some(value) => self.of_value(value, level, step, cx),
            None => self.of_body(level, step.span, cx),
        }
    }
}

impl Compress {
    fn of_value(&self, value: &Text, level: u32, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let of_bodies = [
            ("message", self.message.map(|message| message.span)),
            ("negotiate", self.negotiate.map(|negotiate| negotiate.span)),
            ("min", self.min.map(|min| min.span)),
        ];
        for (word, span) in of_bodies {
            if let Some(span) = span {
                let message = format!("`{word}` is for the body, `value` is given");
                return cx.refuse("policy.bad_value", span, message, "remove one of them");
            }
        }
        if let Some(encoding) = self.encoding.filter(|encoding| encoding.value == TextForm::Utf8) {
            let help = "write `base64url`, or leave it out for bytes";
            return cx.refuse("policy.bad_value", encoding.span, "compressed bytes are no UTF-8", help);
        }
        let encoding = self.encoding.and_then(|encoding| encoding.value.encoding());
        let value = cx.text(value, Place::Plain)?;
        if let Some(read) = value.variable() {
            cx.flow.prove(read.clone());
        }
        let facts = value.facts();
        let of = |ty| Facts { ty, absent: false, ..facts };
        let renamed = step.renamed();
        let ty = if encoding.is_some() { Type::Text } else { Type::Bytes };
        let slots = Slots {
            value: cx.out_with("compressed.value", renamed, of(ty)),
            size: cx.out_with("compressed.size", renamed, of(Type::Int)),
            original_size: cx.out_with("compressed.original_size", renamed, of(Type::Int)),
        };
        let format = self.format.map_or(Format::Gzip, |format| format.value);
        let max_input = self.max_input.map_or(VALUE_INPUT, |size| size.bytes);
        Compiled::plain(OfValue { value, encoding, format, level, max_input, slots })
    }

    fn of_body(&self, level: u32, span: Span, cx: &mut Compile<'_>) -> Option<Compiled> {
        let of_values = [
            ("encoding", self.encoding.map(|encoding| encoding.span)),
            ("max_input", self.max_input.map(|size| size.span)),
        ];
        for (word, span) in of_values {
            if let Some(span) = span {
                let message = format!("`{word}` belongs to `value`");
                return cx.refuse("policy.bad_value", span, message, "remove it, or add `value`");
            }
        }
        let format = match self.format.map(|format| (format.value, format.span)) {
            Some((Format::Deflate, span)) => {
                let message = "the raw form has no place in HTTP: its coding `deflate` means zlib (RFC 9110 §8.4.1.2)";
                return cx.refuse("policy.bad_value", span, message, "write `gzip` or `zlib`");
            }
            format => format.map_or(Format::Gzip, |(format, _)| format),
        };
        let span = self.message.as_ref().map_or(span, |message| message.span);
        cx.changes_message(span);
        let side = cx.side(self.message.map(|message| message.value), span)?;
        if side == Side::Response {
            warn_of_breach(span, cx);
        }
        let negotiate = self.negotiate.is_none_or(|negotiate| negotiate.value);
        let min = self.min.map_or(BODY_MIN, |size| size.bytes);
        Compiled::plain(OfBody { side, format, level, negotiate, min })
    }
}

/// The size of a compressed answer tells how much of a credential is like what the client has sent beside it.
fn warn_of_breach(span: Span, cx: &mut Compile<'_>) {
    let Some((token, client)) = cx.poured.and_then(|poured| Some((poured.token?, poured.client?))) else { return };
    let message =
        "this response holds a credential beside text of the client: its compressed size gives it away (BREACH)";
    let warning = Diagnostic::warning("policy.breach", span, message)
        .with_help("leave such an answer uncompressed, or keep one of the two out of it");
    cx.report(warning.with_note(token, "the credential").with_note(client, "what the client has sent"));
}

struct Slots {
    value: Slot,
    size: Slot,
    original_size: Slot,
}

struct OfValue {
    value: TextParam,
    encoding: Option<Encoding>,
    format: Format,
    level: u32,
    max_input: u64,
    slots: Slots,
}

impl Plain for OfValue {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.compress(x).into()
    }
}

impl OfValue {
    fn compress(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let origin = self.value.facts().origin;
        let too_large = |why: String| fault_by(origin, "compress.too_large", why);
        let plain = self.value.octets(x)?.ok_or_else(|| self.value.absence())?;
        let length = plain.len();
        if length as u64 > self.max_input {
            return Err(too_large(format!("{length} bytes, at most {} are compressed", self.max_input)));
        }
        let packed = coding::compress(self.format, self.level, &plain).map_err(|why| too_large(why.to_string()))?;
        let int = |size: usize| Value::Int(i64::try_from(size).unwrap_or(i64::MAX));
        x.set(self.slots.size, int(packed.len()));
        x.set(self.slots.original_size, int(length));
        let value = match self.encoding {
            None => Value::Bytes(packed.into()),
            Some(encoding) => Value::text(encoding.encode(&packed).map_err(too_large)?),
        };
        x.set(self.slots.value, value);
        Ok(())
    }
}

struct OfBody {
    side: Side,
    format: Format,
    level: u32,
    negotiate: bool,
    min: u64,
}

impl Plain for OfBody {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.compress(x).into()
    }
}

impl OfBody {
    fn compress(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let coding = if self.format == Format::Gzip { "gzip" } else { "deflate" };
        let negotiates = self.side == Side::Response && self.negotiate;
        if negotiates && let Some(headers) = x.headers_mut(self.side) {
            vary(headers);
        }
        if !self.fits(x) || (negotiates && !accepts(&x.request.headers, coding)) {
            return Ok(());
        }
        let media = x.headers(self.side).and_then(Media::of);
        let eager = media.is_some_and(|media| media.is("text/event-stream"));
        let deflater = Box::new(Deflater::new(self.format, self.level, eager));
        x.recode(self.side, deflater, Some(coding)).map_err(|fault| body_fault(self.side, fault))
    }

    /// Whether the message may be compressed and is worth it.
    fn fits(&self, x: &Exchange) -> bool {
        let Some(headers) = x.headers(self.side) else { return false };
        let partial = self.side == Side::Response
            && x.response.as_ref().is_some_and(|response| response.status == StatusCode::PARTIAL_CONTENT);
        let small = x.body(self.side).size().is_some_and(|size| size == 0 || size < self.min);
        !(partial
            || small
            || headers.contains_key(header::CONTENT_RANGE)
            || !content_codings(headers).is_empty()
            || no_transform(headers)
            || no_transform(&x.request.headers))
    }
}

fn no_transform(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

/// Says that the answer depends on `Accept-Encoding` (RFC 9110 §12.5.5), also where it stayed plain.
fn vary(headers: &mut HeaderMap) {
    let fields = headers.get_all(header::VARY).iter().filter_map(|field| field.to_str().ok());
    let known = fields.flat_map(|field| field.split(',')).any(|word| {
        let word = word.trim();
        word == "*" || word.eq_ignore_ascii_case("accept-encoding")
    });
    if !known {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

#[cfg(test)]
mod tests;
