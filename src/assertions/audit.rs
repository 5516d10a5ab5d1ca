//! `audit`: adds to the record of the request.
//!
//! There is one record per request; steps only add: the level rises, messages follow each other, a field
//! keeps its last value. Secrets do not load, tokens are short keyed hashes. A full disk never stops traffic,
//! save where the record is `required`: then it is written, as far as it is known, before the answer leaves.

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::audit::record::Level;
use crate::compile::context::Part;
use crate::compile::flow::Happened;
use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::{Exchange, Withheld};
use crate::engine::program::{Flow, Plain, Verdict, Waits};
use crate::engine::read::Side;
use crate::engine::value::Text as SharedText;
use crate::engine::worker::Records;
use crate::expr::Place;
use crate::fault::Fault;
use crate::secret::{CREDENTIAL_FIELDS, keyed_hash};
use crate::source::{Entries, OneOrMany, Text};

/// Most bytes of a saved body, and of all saved fields of one message.
const SAVED_BYTES_MAX: usize = 64 * 1024;

pub const KIND: Kind = Kind {
    main: Some("level"),
    in_finally: true,
    bodies: "only bodies that it saves or reads",
    faults: &[FaultDoc {
        code: "audit.not_written",
        status: 503,
        doc: "A record that is `required` could not be written. Is the disk full, or the writer too slow? The process log says it.",
    }],
    examples: &[
        Example {
            title: "Who changed what",
            yaml: r#"
service: example
match: { path: "/orders/{id}" }
policy:
  - audit: { level: warning, message: order changed, fields: { order: "${path.id}", note: "${request.query.note}" } }
  - respond: 204
tests:
  - name: the record says it
    request: { path: "/orders/7?note=late" }
    expect: { status: 204, audit: { level: warning, fields: { order: "7", note: late } } }
  - name: what is absent is null
    request: { path: /orders/7 }
    expect: { status: 204, audit: { level: warning, fields: { order: "7" } } }
"#,
        },
        Example {
            title: "No answer without a record",
            yaml: r#"
service: example
match: { path: /pay }
policy:
  - audit: { save: [request_headers, request_body], required: true }
  - respond: 202
tests:
  - name: credentials are hashed
    request: { method: POST, headers: { authorization: "Bearer hunter2" }, json: { amount: 3 } }
    expect: { status: 202, audit: { contains_none: [hunter2] } }
"#,
        },
    ],
    ..Kind::of::<Audit>("audit", "Adds to the record of the request.", Category::Records)
};

/// Parameters of `audit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Audit {
    /// How much attention the record asks for; it only rises.
    #[serde(default)]
    level: LevelWord,
    /// A sentence for whoever reads the record.
    #[serde(default)]
    message: Option<Text>,
    /// Values, each with its type; an absent one is null.
    #[serde(default)]
    fields: Entries<Text>,
    /// Parts of the messages that are recorded, each at most 64 KiB; credential fields as short hashes.
    #[serde(default)]
    save: OneOrMany<Saved>,
    /// Written before the answer leaves; the request fails where that does not succeed.
    #[serde(default)]
    required: bool,
}

/// Levels of records.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
enum LevelWord {
    #[default]
    Info,
    Warning,
    Severe,
}

/// What of the messages is recorded.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Saved {
    /// Fields of the request.
    RequestHeaders,
    /// Body of the request.
    RequestBody,
    /// Fields of the response.
    ResponseHeaders,
    /// Body of the response.
    ResponseBody,
}

impl Saved {
    fn word(self) -> &'static str {
        match self {
            Saved::RequestHeaders => "request_headers",
            Saved::RequestBody => "request_body",
            Saved::ResponseHeaders => "response_headers",
            Saved::ResponseBody => "response_body",
        }
    }

    fn side(self) -> Side {
        match self {
            Saved::RequestHeaders | Saved::RequestBody => Side::Request,
            Saved::ResponseHeaders | Saved::ResponseBody => Side::Response,
        }
    }

    fn is_body(self) -> bool {
        matches!(self, Saved::RequestBody | Saved::ResponseBody)
    }
}

impl Assertion for Audit {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if cx.part == Part::Finally && (self.required || self.save.iter().any(|saved| *saved != Saved::RequestHeaders))
        {
            let message = "in `finally` the answer has left: nothing can be required or saved of it any more";
            let help = "put the step into `policy`; `save: request_headers` may stand here";
            return cx.refuse("policy.not_in_finally", step.span, message, help);
        }
        for saved in self.save.iter() {
            if saved.side() == Side::Response && cx.part == Part::Main && cx.flow.routed == Happened::Never {
                let message = format!("there is no response here: `{}` cannot be saved", saved.word());
                return cx.refuse("policy.no_response", step.span, message, "move the step behind the `route`");
            }
            if saved.is_body() {
                if cx.flow.carried.body(saved.side()).is_credential() {
                    let message = format!("a step has put a credential into what `{}` would record", saved.word());
                    return cx.refuse("policy.secret_leak", step.span, message, "move this step before that one");
                }
                cx.need_body(saved.side());
            }
        }
        let message = match &self.message {
            Some(text) => Some(cx.text_into(text, Place::Plain, Sink::Record)?),
            None => None,
        };
        let fields: Vec<Option<(SharedText, TextParam)>> = self
            .fields
            .iter()
            .map(|(name, text)| Some((name.name.as_str().into(), cx.text_into(text, Place::Plain, Sink::Record)?)))
            .collect();
        let level = match self.level {
            LevelWord::Info => Level::Info,
            LevelWord::Warning => Level::Warning,
            LevelWord::Severe => Level::Severe,
        };
        let fields = fields.into_iter().collect::<Option<Vec<_>>>()?;
        let of_side = |side| cx.flow.carried.credentials(side).map(move |name| (side, name.clone()));
        let presented = cx.presented.iter().filter_map(|place| match place {
            Withheld::Header(name) => Some((Side::Request, name.as_str().into())),
            Withheld::Cookie(_) | Withheld::Query(_) => None,
        });
        let credentials = of_side(Side::Request).chain(of_side(Side::Response)).chain(presented).collect();
        let enrich = Enrich { level, message, fields, save: self.save.0, credentials };
        if self.required { Compiled::waits(Required(enrich)) } else { Compiled::plain(enrich) }
    }
}

/// Adds to the record.
struct Enrich {
    level: Level,
    message: Option<TextParam>,
    fields: Vec<(SharedText, TextParam)>,
    save: Vec<Saved>,
    /// Fields that steps have put a credential into, or take one from.
    credentials: Vec<(Side, SharedText)>,
}

/// Adds to the record and writes it at once.
struct Required(Enrich);

impl Plain for Enrich {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.add(x);
        Verdict::Passed
    }
}

impl Waits for Required {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        self.0.add(x);
        let sink = match &x.worker.records {
            Records::Kept(_) => return Flow::Now(Verdict::Passed),
            Records::Sink(sink) => sink.clone(),
        };
        let mut line = String::new();
        x.record_so_far().write_line(&mut line);
        Flow::Later(Box::pin(async move {
            if sink.write_required(line).await {
                return Verdict::Passed;
            }
            let detail = "the record of this request could not be written";
            Verdict::Fault(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, "audit.not_written", detail))
        }))
    }
}

impl Enrich {
    fn add(&self, x: &mut Exchange) {
        let message = self.message.as_ref().map(|message| message.recorded_text(x));
        let fields = self.fields.iter().map(|(name, text)| (name.clone(), text.recorded(x)));
        let saved = self.save.iter().filter_map(|saved| Some((saved.word().into(), self.save(*saved, x)?)));
        let added: Vec<(SharedText, Json)> = fields.chain(saved).collect();
        let record = &mut x.record;
        record.level = record.level.max(self.level);
        if let Some(message) = message {
            record.message = Some(match record.message.take() {
                Some(before) => format!("{before}; {message}"),
                None => message,
            });
        }
        for (name, value) in added {
            record.fields.retain(|(known, _)| *known != name);
            record.fields.push((name, value));
        }
    }

    /// A part of a message for the record; `None` where there is no such message.
    fn save(&self, saved: Saved, x: &Exchange) -> Option<Json> {
        let side = saved.side();
        let headers = x.headers(side)?;
        let put_there =
            |name: &HeaderName| self.credentials.iter().any(|(of, put)| *of == side && **put == *name.as_str());
        Some(match saved.is_body() {
            false => fields_json(headers, |name| put_there(name) || is_credential(name, x)),
            true => body_json(x.body(side).held()?),
        })
    }
}

/// All fields by name; several of one name as a list, credentials as short hashes. Past
/// [`SAVED_BYTES_MAX`] the rest is left out.
fn fields_json(headers: &HeaderMap, is_credential: impl Fn(&HeaderName) -> bool) -> Json {
    let mut all = serde_json::Map::new();
    let mut bytes = 0;
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| {
            bytes += name.as_str().len() + value.len();
            match is_credential(name) {
                true => Json::String(keyed_hash(value.as_bytes())),
                false => Json::String(String::from_utf8_lossy(value.as_bytes()).into_owned()),
            }
        });
        let mut values: Vec<Json> = values.collect();
        if bytes > SAVED_BYTES_MAX {
            break;
        }
        let one = values.len() == 1;
        let value = if one { values.pop().unwrap_or_default() } else { Json::Array(values) };
        all.insert(name.to_string(), value);
    }
    Json::Object(all)
}

/// Fields that carry credentials: by name, or because a step read one there.
fn is_credential(name: &HeaderName, x: &Exchange) -> bool {
    CREDENTIAL_FIELDS.contains(&name.as_str())
        || x.withheld.iter().any(|withheld| matches!(withheld, Withheld::Header(read) if read == name))
}

/// A body as text where it is UTF-8, else as base64; cut at [`SAVED_BYTES_MAX`].
fn body_json(body: &[u8]) -> Json {
    let kept = body.get(..SAVED_BYTES_MAX).unwrap_or(body);
    match std::str::from_utf8(kept) {
        Ok(text) => Json::String(text.to_owned()),
        // The cut went through a character.
        Err(error) if error.error_len().is_none() && kept.len() < body.len() => {
            Json::String(String::from_utf8_lossy(kept.get(..error.valid_up_to()).unwrap_or_default()).into_owned())
        }
        Err(_) => Json::String(BASE64.encode(kept)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions::trial::{Trial, refusals, service};
    use crate::audit::sink::{To, Writer};

    #[test]
    fn steps_add_to_one_record() {
        let steps = "  - audit: { level: severe, message: one, fields: { a: \"${request.query.a}\", b: x } }
  - audit: { message: two, fields: { b: \"${request.client.port}\" } }
  - respond: 204";
        let record = Trial::of(steps).get("/").record;
        assert_eq!((record.level, record.message.as_deref()), (Level::Severe, Some("one; two")));
        assert_eq!(record.fields, [("a".into(), Json::Null), ("b".into(), Json::from(4000))]);
    }

    #[test]
    fn credentials_are_saved_as_hashes_only() {
        let steps = "  - audit: { save: [request_headers, request_body], fields: { c: \"${request.cookies}\" } }
  - respond: 204";
        let headers = [("authorization", "Bearer hunter2"), ("cookie", "s=hunter2"), ("x-a", "1"), ("x-a", "2")];
        let record = Trial::of(steps).send("POST", "/", &headers, "body").record;
        let mut line = String::new();
        record.write_line(&mut line);
        assert!(!line.contains("hunter2"), "{line}");
        let saved = |name: &str| record.fields.iter().find(|(known, _)| **known == *name).unwrap().1.clone();
        assert_eq!(saved("request_headers")["x-a"], serde_json::json!(["1", "2"]));
        assert_eq!(saved("request_body"), "body");
    }

    #[test]
    fn without_its_required_record_no_answer_leaves() {
        let path = std::env::temp_dir().join(format!("gatewright-audit-{}.jsonl", std::process::id()));
        let writer = Writer::start(To::File { path: path.clone(), rotate: 1 << 20 }).unwrap();
        let yaml = service("  - audit: { message: paid, required: true }\n  - respond: 202");
        let trial = Trial::recording(&yaml, Records::Sink(writer.sink()));
        assert_eq!(trial.get("/pay").status, 202);
        let line: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            (&line["message"], &line["path"], &line["outcome"]),
            (&"paid".into(), &"/pay".into(), &"pending".into())
        );
        writer.stop();
        let outcome = trial.get("/pay");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (503, Some("audit.not_written")));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_saved_body_is_cut_between_characters() {
        let long = "é".repeat(SAVED_BYTES_MAX);
        let text = format!("a{long}");
        assert_eq!(body_json(text.as_bytes()).as_str().unwrap().len(), SAVED_BYTES_MAX - 1);
        assert_eq!(body_json(b"\xff\x00"), "/wA=");
    }

    #[test]
    fn what_cannot_be_saved_does_not_load() {
        assert_eq!(refusals("  - audit: { save: response_body }\n  - respond: 204"), ["policy.no_response"]);
        assert_eq!(refusals("  - audit: { message: \"${env.X}\" }\n  - respond: 204"), ["policy.env_missing"]);
        let late = "  - respond: 204\nfinally:\n  - audit: { required: true }";
        assert_eq!(refusals(late), ["policy.not_in_finally"]);
    }

    #[test]
    fn parts_of_an_answer_are_saved_and_a_level_only_rises() {
        let steps = "  - audit: warning\n  - route: http://127.0.0.1:9000\n  - audit: { save: [response_headers, response_body], level: info }";
        let answer = [("set-cookie", "s=hunter2"), ("x-a", "1")];
        let outcome = Trial::of(steps).answering(&answer, "up").get("/");
        assert_eq!((outcome.status, outcome.body.as_str(), outcome.record.level), (200, "up", Level::Warning));
        let saved = |name: &str| outcome.record.fields.iter().find(|(known, _)| **known == *name).unwrap().1.clone();
        assert_eq!((&saved("response_headers")["x-a"], saved("response_body")), (&"1".into(), "up".into()));
        assert!(saved("response_headers")["set-cookie"].as_str().unwrap().starts_with('#'));
    }
}
