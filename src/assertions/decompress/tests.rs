//! Bodies, bounds and origins: what no example can write.

use crate::assertions::trial::{Trial, refusals};
use crate::coding::{Deflater, Format, code};

fn packed(format: Format, data: &[u8]) -> &'static [u8] {
    code(&mut Deflater::new(format, 6, false), bytes::Bytes::copy_from_slice(data)).unwrap().leak()
}

#[test]
fn a_body_goes_on_plain() {
    let trial = Trial::of("  - decompress\n  - route: http://127.0.0.1:9000");
    for (coding, format) in [("gzip", Format::Gzip), ("X-GZIP", Format::Gzip), ("deflate", Format::Zlib)] {
        let fields = [
            ("content-encoding", coding),
            ("content-digest", "sha-256=:x:"),
            ("content-md5", "x"),
            ("content-type", "text/plain"),
        ];
        let outcome = trial.send_bytes("POST", "/", &fields, packed(format, b"hello"));
        assert_eq!(outcome.sent[0].body, "hello");
        assert_eq!((outcome.sent_header("content-encoding"), outcome.sent_header("content-md5")), (None, None));
        assert_eq!(
            (outcome.sent_header("content-digest"), outcome.sent_header("content-type")),
            (None, Some("text/plain"))
        );
    }
}

#[test]
fn exactly_one_layer_is_undone() {
    let trial = Trial::of("  - decompress: auto\n  - respond: { text: \"${request.text}\" }");
    let twice = packed(Format::Gzip, packed(Format::Gzip, b"hello"));
    let outcome = trial.send_bytes("POST", "/", &[("content-encoding", "gzip, gzip")], twice);
    assert_eq!((outcome.status, outcome.fault.as_deref()), (415, Some("decompress.unsupported")));
    let outcome = trial.send_bytes("POST", "/", &[("content-encoding", "gzip")], twice);
    assert_eq!(outcome.fault.as_deref(), Some("body.not_text"));
    let gzip = Trial::of("  - decompress: gzip\n  - respond: { text: \"${request.text}\" }");
    assert_eq!(gzip.send_bytes("POST", "/", &[], packed(Format::Gzip, b"hello")).body, "hello");
    let outcome = gzip.send_bytes("POST", "/", &[("content-encoding", "deflate")], packed(Format::Zlib, b"hello"));
    assert_eq!(outcome.status, 415);
}

#[test]
fn limits_are_met_while_inflating() {
    let fault = |params: &str, data: &[u8]| {
        let trial =
            Trial::of(&format!("  - decompress: {{ {params} }}\n  - respond: {{ text: \"${{request.size ?? 0}}\" }}"));
        let outcome = trial.send_bytes("POST", "/", &[("content-encoding", "gzip")], packed(Format::Gzip, data));
        (outcome.status, outcome.fault.unwrap_or(outcome.body))
    };
    assert_eq!(fault("max_output: 1KiB", &[b'a'; 1024]), (200, "1024".into()));
    assert_eq!(fault("max_output: 1KiB", &[b'a'; 1025]), (413, "decompress.too_large".into()));
    assert_eq!(fault("format: auto", &vec![0; 1_000_000]), (413, "decompress.ratio".into()));
    assert_eq!(fault("max_ratio: 2000", &vec![0; 1_000_000]), (200, "1000000".into()));
}

#[test]
fn a_bad_answer_is_the_upstreams_fault() {
    let trial = Trial::of("  - route: http://127.0.0.1:9000\n  - decompress: auto");
    let outcome = trial.answering(&[("content-encoding", "gzip")], "no gzip").get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("decompress.invalid")));
    let value = "  - route: http://127.0.0.1:9000\n  - decompress: { value: \"${response.body}\", format: zlib }";
    let outcome = Trial::of(value).answering(&[], "no zlib").get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("decompress.invalid")));
}

#[test]
fn a_value_has_its_own_limits() {
    let bomb = data_encoding::BASE64.encode(packed(Format::Deflate, &vec![0; 2_000_000]));
    let fault = |params: &str| {
        let steps = format!(
            "  - decompress: {{ format: deflate, encoding: base64, value: \"${{request.headers.x_v}}\", {params} }}
  - respond: {{ text: \"${{decompressed.size ?? 0}} ${{decompressed.ratio ?? 0.0}}\" }}"
        );
        let outcome = Trial::of(&steps).send("GET", "/", &[("x-v", &bomb)], "");
        (outcome.status, outcome.fault.unwrap_or(outcome.body))
    };
    assert_eq!(fault("max_ratio: 5000"), (413, "decompress.too_large".into()));
    assert_eq!(fault("max_output: 4MiB"), (413, "decompress.ratio".into()));
    assert!(fault("max_output: 4MiB, max_ratio: 5000").1.starts_with("2000000 "));
}

#[test]
fn what_cannot_work_does_not_load() {
    for params in
        ["format: deflate", "value: a, format: auto", "encoding: hex", "value: a, message: request", "max_ratio: 0"]
    {
        let steps = format!("  - decompress: {{ {params} }}\n  - respond: 204");
        assert_eq!(refusals(&steps), ["policy.bad_value"], "{params}");
    }
}

#[test]
fn what_an_answer_breaks_is_never_the_clients_fault() {
    let fault = |params: &str, data: &[u8]| {
        let steps = format!(
            "  - route: http://127.0.0.1:9000\n  - decompress: {{ {params} }}\n  - respond: {{ value: \"${{response.body}}\" }}"
        );
        let trial = Trial::of(&steps).answering_bytes(&[("content-encoding", "gzip")], packed(Format::Gzip, data));
        let outcome = trial.get("/");
        (outcome.status, outcome.fault.unwrap_or_default())
    };
    assert_eq!(fault("max_output: 4B", b"large"), (502, "decompress.too_large".into()));
    assert_eq!(fault("max_ratio: 10", &vec![0; 100_000]), (502, "decompress.ratio".into()));
    assert_eq!(fault("format: zlib", b"x"), (502, "decompress.unsupported".into()));
}

#[test]
fn the_bounds_without_a_word_about_them() {
    let value = |length: usize| {
        let steps = "  - decompress: { value: \"${request.body}\", format: zlib, max_ratio: 2000 }\n  - respond: { text: \"${decompressed.size ?? 0}\" }";
        let outcome = Trial::of(steps).send_bytes("POST", "/", &[], packed(Format::Zlib, &vec![0; length]));
        outcome.fault.unwrap_or(outcome.body)
    };
    assert_eq!((value(1 << 20).as_str(), value((1 << 20) + 1).as_str()), ("1048576", "decompress.too_large"));
    let body = |length: usize| {
        let steps = "  - route: http://127.0.0.1:9000\n  - decompress: { max_ratio: 2000 }\n  - compress: { negotiate: false }\n  - limit_size: 1MiB";
        let trial =
            Trial::of(steps).answering_bytes(&[("content-encoding", "gzip")], packed(Format::Gzip, &vec![0; length]));
        let outcome = trial.get("/");
        outcome.fault.unwrap_or_else(|| outcome.status.to_string())
    };
    assert_eq!((body(10 << 20).as_str(), body((10 << 20) + 1).as_str()), ("200", "decompress.too_large"));
}

#[test]
fn an_absent_value_leaves_all_absent_and_touches_no_message() {
    let steps = "  - decompress: { value: \"${request.headers.x_v}\", encoding: hex }\n  - respond: { json: [\"${decompressed.value}\", \"${decompressed.size}\", \"${decompressed.ratio}\"] }";
    assert_eq!(Trial::of(steps).get("/").body, "[null,null,null]");
    let steps = "  - decompress: { value: \"${request.body}\" }\n  - route: http://127.0.0.1:9000";
    let outcome = Trial::of(steps).send_bytes("POST", "/", &[("content-encoding", "gzip")], packed(Format::Gzip, b"x"));
    assert_eq!(outcome.sent_header("content-encoding"), Some("gzip"));
}
