//! `decompress`: decompresses a variable or a body, with hard limits.
//!
//! RFC 1950, RFC 1951, RFC 1952; RFC 9110 §8.4. Output is counted while it comes into being, nothing is allocated
//! from declared sizes, and exactly one layer is undone. A body streams on: where a limit is met after bytes were
//! forwarded, the connection is cut.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::coding::{Format, InflateBounds, Inflater, Refused, code};
use crate::compile::message::Message;
use crate::compile::octets::{TextForm, fault_with};
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Read, Side, Slot};
use crate::engine::recode::content_codings;
use crate::engine::run::body_fault;
use crate::engine::value::{Facts, Type, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Size, Span, Spanned, Text};

/// Output of a value without `max_output`, in bytes.
const VALUE_OUTPUT: u64 = 1024 * 1024;
/// Output of a body without `max_output`, in bytes.
const BODY_OUTPUT: u64 = 10 * 1024 * 1024;
/// Output for each byte of input without `max_ratio`.
const RATIO: u32 = 100;

pub const KIND: Kind = Kind {
    main: Some("format"),
    bodies: "none: it streams; buffer, where `value` reads one",
    sets: &[
        Output {
            name: "decompressed.value",
            ty: Type::Any,
            absent: true,
            doc: "With `value`: what came out, a string where it is UTF-8, else bytes. Absent only where `value` is, as the others.",
        },
        Output { name: "decompressed.size", ty: Type::Int, absent: true, doc: "Its bytes." },
        Output { name: "decompressed.ratio", ty: Type::Float, absent: true, doc: "Bytes out for each byte in." },
    ],
    faults: &[
        FaultDoc {
            code: "decompress.invalid",
            status: 400,
            doc: "Bad data, a bad checksum, an early end, bytes behind the end, or a text that is not in its `encoding`. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "decompress.too_large",
            status: 413,
            doc: "More comes out than `max_output`. By origin: 413, 502 or 500.",
        },
        FaultDoc {
            code: "decompress.ratio",
            status: 413,
            doc: "More comes out for each byte that goes in than `max_ratio`, judged after 64 KiB. By origin: 413, 502 or 500.",
        },
        FaultDoc {
            code: "decompress.unsupported",
            status: 415,
            doc: "The body has another coding, or several. 502 for a response.",
        },
    ],
    examples: &[
        Example {
            title: "A compressed token in a field",
            yaml: r#"
service: example
match: { path: /login }
policy:
  - { decompress: { value: "${request.headers.x_saml}", encoding: base64url }, as: saml_xml }
  - respond: { text: "${saml_xml.value ?? 'none'} ${saml_xml.size ?? 0}" }
tests:
  - name: gzip
    request: { headers: { x-saml: H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA } }
    expect: { status: 200, text: hello 5 }
  - name: a wrong checksum
    request: { headers: { x-saml: H4sIAAAAAAAAA8tIzcnJBwCGphA3BQAAAA } }
    expect: { status: 400, fault: decompress.invalid }
  - name: absent in, absent out
    request: {}
    expect: { status: 200, text: none 0 }
"#,
        },
        Example {
            title: "A body by its own coding",
            yaml: r#"
service: example
match: { path: /upload, methods: [POST] }
policy:
  - decompress: { format: auto, max_output: 1MiB }
  - respond: { text: "${request.text}" }
tests:
  - name: a plain body passes as it is
    request: { method: POST, text: hello }
    expect: { status: 200, text: hello }
  - name: a coding that the gateway cannot undo
    request: { method: POST, text: hello, headers: { content-encoding: br } }
    expect: { status: 415, fault: decompress.unsupported, headers: { accept-encoding: "gzip, deflate, identity" } }
  - name: it says gzip and is none
    request: { method: POST, text: hello, headers: { content-encoding: gzip } }
    expect: { status: 400, fault: decompress.invalid }
"#,
        },
    ],
    ..Kind::of::<Decompress>("decompress", "Decompresses a variable or a body, with hard limits.", Category::Messages)
};

/// Parameters of `decompress`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Decompress {
    /// `gzip` for a value, `auto` for a body where it is left out.
    #[serde(default)]
    format: Option<Spanned<Word>>,
    /// A variable; an absent one gives absent ones. The body of `message` without it.
    #[serde(default)]
    value: Option<Text>,
    /// How the bytes of `value` are written.
    #[serde(default)]
    encoding: Option<Spanned<TextForm>>,
    /// Whose body, where `value` is left out.
    #[serde(default)]
    message: Option<Spanned<Message>>,
    /// Bytes that may come out; 1 MiB of a value, 10 MiB of a body without it.
    #[serde(default)]
    max_output: Option<Size>,
    /// Bytes that may come out for each byte that goes in, judged after 64 KiB.
    #[serde(default)]
    max_ratio: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; HTTP's coding `deflate`.
    Zlib,
    /// RFC 1951, of a value only.
    Deflate,
    /// By `Content-Encoding`, of a body only.
    Auto,
}

impl Assertion for Decompress {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let ratio = match self.max_ratio {
            Some(ratio) if ratio.value == 0 => {
                let help = "write `max_ratio: 100`";
                return cx.refuse("policy.bad_value", ratio.span, "a ratio of 0 lets nothing out", help);
            }
            ratio => u64::from(ratio.map_or(RATIO, |ratio| ratio.value)),
        };
        let bounds = |output| InflateBounds { output: self.max_output.map_or(output, |size| size.bytes), ratio };
        match &self.value {
            Some(value) => self.of_value(value, bounds(VALUE_OUTPUT), step, cx),
            None => self.of_body(bounds(BODY_OUTPUT), step.span, cx),
        }
    }
}

impl Decompress {
    fn of_value(&self, value: &Text, bounds: InflateBounds, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if let Some(message) = &self.message {
            let help = "remove one of them";
            return cx.refuse("policy.bad_value", message.span, "`message` is for the body, `value` is given", help);
        }
        let format = match self.format.map(|format| (format.value, format.span)) {
            None | Some((Word::Gzip, _)) => Format::Gzip,
            Some((Word::Zlib, _)) => Format::Zlib,
            Some((Word::Deflate, _)) => Format::Deflate,
            Some((Word::Auto, span)) => {
                let help = "write `gzip`, `zlib` or `deflate`";
                return cx.refuse("policy.bad_value", span, "a value does not say how it was compressed", help);
            }
        };
        let value = cx.text(value, Place::Plain)?;
        let facts = value.facts();
        let of = |ty| Facts { ty, ..facts };
        let renamed = step.renamed();
        let slots = Slots {
            value: cx.out_with("decompressed.value", renamed, of(Type::Any)),
            size: cx.out_with("decompressed.size", renamed, of(Type::Int)),
            ratio: cx.out_with("decompressed.ratio", renamed, of(Type::Float)),
        };
        let form = self.encoding.map_or(TextForm::None, |encoding| encoding.value);
        Compiled::plain(OfValue { value, form, format, bounds, slots })
    }

    fn of_body(&self, bounds: InflateBounds, span: Span, cx: &mut Compile<'_>) -> Option<Compiled> {
        if let Some(encoding) = &self.encoding {
            let help = "remove it: a body is bytes";
            return cx.refuse("policy.bad_value", encoding.span, "`encoding` belongs to `value`", help);
        }
        let format = match self.format.map(|format| (format.value, format.span)) {
            None | Some((Word::Auto, _)) => None,
            Some((Word::Gzip, _)) => Some(Format::Gzip),
            Some((Word::Zlib, _)) => Some(Format::Zlib),
            Some((Word::Deflate, span)) => {
                let message = "the raw form has no place in HTTP: its coding `deflate` means zlib (RFC 9110 §8.4.1.2)";
                return cx.refuse("policy.bad_value", span, message, "write `zlib` or `auto`");
            }
        };
        let span = self.message.as_ref().map_or(span, |message| message.span);
        cx.changes_message(span);
        let side = cx.side(self.message.map(|message| message.value), span)?;
        let field = Read::Header(side, header::CONTENT_ENCODING);
        let shows_codings = !cx.flow.carried.mark_of(&field).is_credential();
        Compiled::plain(OfBody { side, format, bounds, shows_codings })
    }
}

struct Slots {
    value: Slot,
    size: Slot,
    ratio: Slot,
}

struct OfValue {
    value: TextParam,
    form: TextForm,
    format: Format,
    bounds: InflateBounds,
    slots: Slots,
}

impl Plain for OfValue {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.decompress(x).into()
    }
}

impl OfValue {
    fn decompress(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let origin = self.value.facts().origin;
        let Some(written) = self.value.octets(x)? else {
            for slot in [self.slots.value, self.slots.size, self.slots.ratio] {
                x.set(slot, Value::Absent);
            }
            return Ok(());
        };
        let packed = match self.form.encoding() {
            None => written.into_owned(),
            Some(encoding) => encoding.decode(&written).map_err(|why| fault_by(origin, "decompress.invalid", why))?,
        };
        let length = packed.len();
        let plain = code(&mut Inflater::new(self.format, self.bounds), Bytes::from(packed)).map_err(|why| {
            let too_large = StatusCode::PAYLOAD_TOO_LARGE;
            match why {
                Refused::Invalid(_) => fault_by(origin, "decompress.invalid", why.to_string()),
                Refused::TooLarge { .. } => fault_with(origin, too_large, "decompress.too_large", why.to_string()),
                Refused::Ratio { .. } => fault_with(origin, too_large, "decompress.ratio", why.to_string()),
            }
        })?;
        x.set(self.slots.size, Value::Int(i64::try_from(plain.len()).unwrap_or(i64::MAX)));
        x.set(self.slots.ratio, Value::Float(plain.len() as f64 / length.max(1) as f64));
        x.set(
            self.slots.value,
            match String::from_utf8(plain) {
                Ok(text) => Value::text(text),
                Err(error) => Value::Bytes(error.into_bytes().into()),
            },
        );
        Ok(())
    }
}

struct OfBody {
    side: Side,
    /// `None` goes by what the body says.
    format: Option<Format>,
    bounds: InflateBounds,
    /// A detail may name its codings: no step has made them of a credential.
    shows_codings: bool,
}

impl Plain for OfBody {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.decompress(x).into()
    }
}

impl OfBody {
    fn decompress(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        // An answer to HEAD has no body, whatever its fields say.
        if x.body(self.side).size() == Some(0) {
            return Ok(());
        }
        let codings = x.headers(self.side).map(content_codings).unwrap_or_default();
        let said = match codings.as_slice() {
            [] => None,
            [coding] => match coding.as_str() {
                "gzip" | "x-gzip" => Some(Format::Gzip),
                "deflate" => Some(Format::Zlib),
                _ => return Err(self.unsupported(&codings)),
            },
            _ => return Err(self.unsupported(&codings)),
        };
        let format = match (self.format, said) {
            (None, None) => return Ok(()),
            (Some(written), Some(said)) if written != said => return Err(self.unsupported(&codings)),
            (Some(format), _) | (None, Some(format)) => format,
        };
        let inflater = Box::new(Inflater::new(format, self.bounds));
        x.recode(self.side, inflater, None).map_err(|fault| body_fault(self.side, fault))
    }

    fn unsupported(&self, codings: &[String]) -> Box<Fault> {
        let code = "decompress.unsupported";
        let detail = match self.shows_codings {
            true => format!("coded as {}", codings.join(", ")),
            false => "coded as a credential that a step has put there, which is not shown".to_owned(),
        };
        match self.side {
            // RFC 9110 §15.5.16: what would have been taken.
            Side::Request => Fault::denied(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail)
                .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, identity")),
            Side::Response => Fault::broken(StatusCode::BAD_GATEWAY, code, detail),
        }
    }
}

#[cfg(test)]
mod tests;
