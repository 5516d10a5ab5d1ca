//! `encode`: writes bytes or text in a text form.
//!
//! The forms and their RFCs stand in `encoding.rs`. What a value was marked as (a token, a secret) its encoded
//! form is too.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::encoding::Encoding;
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Slot;
use crate::engine::value::{Facts, Type, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::Text;

pub const KIND: Kind = Kind {
    bodies: "buffer, where `value` reads one",
    sets: &[Output { name: "encoded.value", ty: Type::Text, absent: false, doc: "The text form." }],
    faults: &[
        FaultDoc {
            code: "encode.invalid",
            status: 400,
            doc: "The value has no such form: bytes that are no UTF-8 in `xml` or `json_string`, or a character that XML cannot hold. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "encode.absent",
            status: 400,
            doc: "`value` is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "A value as base64url and inside of a URL",
        yaml: r#"
service: example
match: { path: /mark, methods: [POST] }
policy:
  - encode: { value: "${request.body}", encoding: base64url }
  - { encode: { value: "${request.query.q ?? ''}", encoding: url }, as: quoted }
  - respond: { text: "${encoded.value} ${quoted.value}" }
tests:
  - name: bytes and text
    request: { method: POST, path: "/mark?q=a%26b+c", text: "hi?>" }
    expect: { status: 200, text: "aGk_Pg a%26b%20c" }
"#,
    }],
    ..Kind::of::<Encode>("encode", "Writes bytes or text in a text form.", Category::Messages)
};

/// Parameters of `encode`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Encode {
    /// Text, or the bytes of a variable.
    value: Text,
    /// The form.
    encoding: Encoding,
}

impl Assertion for Encode {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let value = cx.text(&self.value, Place::Plain)?;
        let facts = Facts { ty: Type::Text, absent: false, ..value.facts() };
        if let Some(read) = value.variable() {
            cx.flow.prove(read.clone());
        }
        let encoded = cx.out_with("encoded.value", step.renamed(), facts);
        Compiled::plain(EncodeStep { value, encoding: self.encoding, encoded })
    }
}

struct EncodeStep {
    value: TextParam,
    encoding: Encoding,
    encoded: Slot,
}

impl Plain for EncodeStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.encode(x).into()
    }
}

impl EncodeStep {
    fn encode(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let bytes = self.value.octets(x)?.ok_or_else(|| self.value.absence())?;
        let encoded = self.encoding.encode(&bytes);
        let encoded = encoded.map_err(|why| fault_by(self.value.facts().origin, "encode.invalid", why))?;
        drop(bytes);
        x.set(self.encoded, Value::text(encoded));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, codes, refusals, service};

    #[test]
    fn a_mark_survives_encoding() {
        let secret = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
        let steps = "  - encode: { value: \"${secret('partner')}\", encoding: hex }\n  - respond: { text: \"${encoded.value}\" }";
        assert_eq!(codes(&format!("{secret}{}", service(steps))), ["policy.secret_leak"]);
        let steps = "  - encode: { value: \"${request.headers.authorization}\", encoding: hex }
  - decode: { value: \"${encoded.value}\", encoding: hex }
  - audit: { fields: { one: \"${encoded.value}\", two: \"${decoded.value}\" } }
  - respond: { text: \"${decoded.value}\" }";
        let outcome = Trial::of(steps).send("GET", "/", &[("authorization", "Bearer zebra")], "");
        assert_eq!(outcome.body, "Bearer zebra");
        let record = format!("{:?}", outcome.record);
        assert!(!record.contains("zebra") && !record.contains("7a65627261"), "{record}");
    }

    #[test]
    fn whose_value_it_is_decides_about_the_fault() {
        let encode =
            |value: &str| format!("  - encode: {{ value: \"${{{value}}}\", encoding: xml }}\n  - respond: 204");
        let outcome = Trial::of(&encode("request.body")).send_bytes("POST", "/", &[], b"\x01");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("encode.invalid")));
        let routed = format!("  - route: http://127.0.0.1:9000\n{}", encode("response.text"));
        assert_eq!(Trial::of(&routed).answering(&[], "\u{1}").get("/").status, 502);
        let outcome = Trial::of(&encode("request.query.q")).get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("encode.absent")));
    }

    #[test]
    fn a_form_has_to_be_named() {
        assert_eq!(refusals("  - encode: { value: a }\n  - respond: 204"), ["policy.missing_parameter"]);
        assert_eq!(refusals("  - encode: { value: a, encoding: rot13 }\n  - respond: 204"), ["policy.bad_value"]);
    }
}
