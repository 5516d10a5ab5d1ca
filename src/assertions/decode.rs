//! `decode`: reads bytes or text out of a text form, strictly.
//!
//! RFC 4648 §3.2–3.5 and what else stands in `encoding.rs`. An absent value gives an absent one.

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
    sets: &[Output {
        name: "decoded.value",
        ty: Type::Any,
        absent: true,
        doc: "Text, or bytes with `result: bytes`. Absent only where `value` is.",
    }],
    faults: &[FaultDoc {
        code: "decode.invalid",
        status: 400,
        doc: "A character outside of the alphabet, wrong padding, bits behind the last byte, or bytes that are no UTF-8 with `result: text`. By origin: 400, 502 or 500.",
    }],
    examples: &[Example {
        title: "A parameter that carries base64url",
        yaml: r#"
service: example
match: { path: /state }
policy:
  - decode: { value: "${request.query.state}", encoding: base64url }
  - respond: { text: "${decoded.value ?? 'none'}" }
tests:
  - name: with and without padding
    exchanges:
      - { request: { path: "/state?state=aGk_Pg" }, expect: { status: 200, text: "hi?>" } }
      - { request: { path: "/state?state=aGk_Pg==" }, expect: { status: 200, text: "hi?>" } }
  - name: absent in, absent out
    request: {}
    expect: { status: 200, text: none }
  - name: bits behind the last byte
    request: { path: "/state?state=aGk_Ph" }
    expect: { status: 400, fault: decode.invalid }
  - name: no text
    request: { path: "/state?state=_w" }
    expect: { status: 400, fault: decode.invalid }
"#,
    }],
    ..Kind::of::<Decode>("decode", "Reads bytes or text out of a text form.", Category::Messages)
};

/// Parameters of `decode`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Decode {
    /// The text form; an absent one gives an absent value.
    value: Text,
    /// The form.
    encoding: Encoding,
    /// What comes out.
    #[serde(default)]
    result: Outcome,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// UTF-8.
    #[default]
    Text,
    /// Any bytes.
    Bytes,
}

impl Assertion for Decode {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let value = cx.text(&self.value, Place::Plain)?;
        let ty = if self.result == Outcome::Text { Type::Text } else { Type::Bytes };
        let decoded = cx.out_with("decoded.value", step.renamed(), Facts { ty, ..value.facts() });
        Compiled::plain(DecodeStep { value, encoding: self.encoding, result: self.result, decoded })
    }
}

struct DecodeStep {
    value: TextParam,
    encoding: Encoding,
    result: Outcome,
    decoded: Slot,
}

impl Plain for DecodeStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.decode(x).into()
    }
}

impl DecodeStep {
    fn decode(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let invalid = |why| fault_by(self.value.facts().origin, "decode.invalid", why);
        let value = match self.value.octets(x)? {
            None => Value::Absent,
            Some(text) => {
                let bytes = self.encoding.decode(&text).map_err(invalid)?;
                match self.result {
                    Outcome::Bytes => Value::Bytes(bytes.into()),
                    Outcome::Text => {
                        let text =
                            String::from_utf8(bytes).map_err(|_| invalid("it decodes to no UTF-8".to_owned()))?;
                        Value::text(text)
                    }
                }
            }
        };
        x.set(self.decoded, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn bytes_stay_bytes() {
        let steps = "  - decode: { value: \"${request.query.v ?? ''}\", encoding: hex, result: bytes }
  - respond: { text: \"${base64(decoded.value)}\" }";
        assert_eq!(Trial::of(steps).get("/?v=ff00").body, "/wA=");
    }

    #[test]
    fn absence_goes_on_and_has_to_be_met() {
        let steps = "  - decode: { value: \"${request.query.v}\", encoding: hex }\n  - respond: { text: \"x${decoded.value}\" }";
        assert_eq!(refusals(steps), ["expr.may_be_absent"]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        let steps = "  - decode: { value: \"${request.headers.x_v}\", encoding: base64 }\n  - respond: 204";
        let outcome = Trial::of(steps).send("GET", "/", &[("x-v", "geheim!!")], "");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("decode.invalid")));
        assert!(!format!("{:?}{}", outcome.record, outcome.body).contains("geheim"));
    }

    #[test]
    fn whose_value_it_is_decides_about_the_fault() {
        let decode =
            |value: &str| format!("  - decode: {{ value: \"${{{value}}}\", encoding: base32 }}\n  - respond: 204");
        let routed = format!("  - route: http://127.0.0.1:9000\n{}", decode("response.text"));
        let outcome = Trial::of(&routed).answering(&[], "!").get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("decode.invalid")));
        let outcome = Trial::of(&decode("service.name")).get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (500, Some("decode.invalid")));
    }
}
