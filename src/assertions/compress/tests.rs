//! Bodies: what is compressed, what is left, and what they say afterwards.

use crate::assertions::trial::{Outcome, Trial, refusals};

const LONG: &str = "a body that is longer than the least, a body that is longer than the least";

fn answered(params: &str, asked: &[(&str, &str)], headers: &[(&str, &str)]) -> Outcome {
    let steps = format!("  - route: http://127.0.0.1:9000\n  - compress: {{ min: 50B, {params} }}");
    Trial::of(&steps).answering(headers, LONG).send("GET", "/", asked, "")
}

#[test]
fn only_what_may_be_compressed_is() {
    let gzip = [("accept-encoding", "gzip, deflate")];
    let coding = |outcome: Outcome| outcome.header("content-encoding").map(str::to_owned);
    assert_eq!(coding(answered("", &gzip, &[])).as_deref(), Some("gzip"));
    assert_eq!(coding(answered("format: zlib", &gzip, &[])).as_deref(), Some("deflate"));
    assert_eq!(coding(answered("", &[], &[])), None);
    assert_eq!(coding(answered("negotiate: false", &[], &[])).as_deref(), Some("gzip"));
    assert_eq!(coding(answered("", &gzip, &[("content-encoding", "br")])).as_deref(), Some("br"));
    assert_eq!(coding(answered("", &gzip, &[("cache-control", "private, No-Transform")])), None);
    assert_eq!(coding(answered("", &gzip, &[("content-range", "bytes 0-73/100")])), None);
    let asked = [("accept-encoding", "gzip"), ("cache-control", "no-transform")];
    assert_eq!(coding(answered("", &asked, &[])), None);
    let steps = "  - route: http://127.0.0.1:9000\n  - compress";
    assert_eq!(coding(Trial::of(steps).answering(&[], LONG).send("GET", "/", &gzip, "")), None);
}

#[test]
fn fields_tell_what_it_is_now() {
    let gzip = [("accept-encoding", "gzip")];
    let old = [
        ("etag", "\"1\""),
        ("accept-ranges", "bytes"),
        ("vary", "origin"),
        ("content-length", "74"),
        ("content-md5", "x"),
    ];
    let outcome = answered("", &gzip, &old);
    assert_eq!(outcome.header("content-md5"), None);
    assert_eq!((outcome.header("etag"), outcome.header("accept-ranges")), (Some("W/\"1\""), None));
    let vary: Vec<_> = outcome.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["origin", "accept-encoding"]);
    let plain = answered("", &[], &[("vary", "Accept-Encoding")]);
    assert_eq!((plain.headers.get_all("vary").iter().count(), plain.body.as_str()), (1, LONG));
}

#[test]
fn a_request_is_compressed_and_read_back() {
    let steps = "  - compress: { min: 1B }\n  - decompress: auto\n  - respond: { text: \"${request.text}\" }";
    let trial = Trial::of(steps);
    assert_eq!(trial.send("POST", "/", &[], LONG).body, LONG);
    assert_eq!(trial.post_streamed("/", LONG).body, LONG);
    let sent = Trial::of("  - compress: { min: 1B }\n  - route: http://127.0.0.1:9000").send("POST", "/", &[], LONG);
    assert_eq!(sent.sent_header("content-encoding"), Some("gzip"));
    assert_ne!(sent.sent[0].body, LONG);
}

#[test]
fn a_value_has_a_bound_and_keeps_its_mark() {
    let steps = "  - compress: { value: \"${request.headers.authorization}\", max_input: 8B, encoding: hex }
  - audit: { fields: { small: \"${compressed.value}\" } }
  - respond: { text: \"${compressed.value}\" }";
    let trial = Trial::of(steps);
    let outcome = trial.send("GET", "/", &[("authorization", "Basic 12")], "");
    assert!(outcome.body.starts_with("1f8b"));
    assert!(!format!("{:?}", outcome.record).contains(&outcome.body));
    let outcome = trial.send("GET", "/", &[("authorization", "Basic 123")], "");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("compress.too_large")));
    assert_eq!(trial.get("/").fault.as_deref(), Some("compress.absent"));
}

#[test]
fn what_cannot_work_does_not_load() {
    for params in ["format: deflate", "level: 0", "encoding: hex", "value: a, min: 1B", "value: a, encoding: utf8"] {
        let steps = format!("  - compress: {{ {params} }}\n  - respond: 204");
        assert_eq!(refusals(&steps), ["policy.bad_value"], "{params}");
    }
}

#[test]
fn a_value_is_bytes_without_an_encoding_and_touches_no_message() {
    let steps = "  - route: http://127.0.0.1:9000\n  - compress: { value: \"${response.text}\" }
  - set_headers: { x-packed: \"${base64(compressed.value)}\" }";
    let outcome = Trial::of(steps).answering(&[], LONG).send("GET", "/", &[("accept-encoding", "gzip")], "");
    assert!(outcome.header("x-packed").unwrap().starts_with("H4sI"));
    assert_eq!((outcome.body.as_str(), outcome.header("content-encoding")), (LONG, None));
}

#[test]
fn levels_differ_and_six_is_the_one_without() {
    let size = |params: &str| -> u64 {
        let steps = format!(
            "  - compress: {{ value: \"${{request.text}}\"{params} }}\n  - respond: {{ text: \"${{compressed.size}}\" }}"
        );
        let order = |n: u32| format!("<order id='{}'><item>{}</item></order>", n, n.wrapping_mul(2_654_435_761) >> 22);
        let words: String = (0..2000).map(order).collect();
        Trial::of(&steps).send("POST", "/", &[], words.leak()).body.parse().unwrap()
    };
    assert_eq!(size(""), size(", level: 6"));
    let sizes = [1, 6, 9].map(|level| size(&format!(", level: {level}")));
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

#[test]
fn a_kibibyte_is_the_least_without_min() {
    let steps = "  - route: http://127.0.0.1:9000\n  - compress";
    let coding = |length: usize| {
        let body: &'static str = "x".repeat(length).leak();
        let outcome = Trial::of(steps).answering(&[], body).send("GET", "/", &[("accept-encoding", "gzip")], "");
        outcome.header("content-encoding").map(str::to_owned)
    };
    assert_eq!((coding(1023), coding(1024).as_deref()), (None, Some("gzip")));
}
