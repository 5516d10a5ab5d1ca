//! What the engine reads of bodies and paths, and what it leaves out.

use super::Trial;

#[test]
fn a_form_is_known_by_its_media_type_however_it_is_written() {
    let trial = Trial::of("  - respond: { text: \"${request.form.a ?? 'none'}\" }");
    let body = |media: &str| trial.send("POST", "/", &[("content-type", media)], "a=b").body;
    assert_eq!(body("application/x-www-form-urlencoded"), "b");
    assert_eq!(body("Application/X-WWW-Form-URLencoded; charset=utf-8"), "b");
    assert_eq!(body("application/x-www-form-urlencoded-not"), "none");
}

#[test]
fn an_empty_body_has_no_json_and_blanks_are_none() {
    let steps = "  - route: http://127.0.0.1:9000\n  \
                 - respond: { text: \"${response.json.a ?? 'none'} ${response.json.b.c ?? 'none'}\" }";
    let trial = Trial::of(steps).answering(&[("content-encoding", "gzip")], "");
    assert_eq!(trial.get("/").body, "none none");
    let trial = Trial::of(steps).answering(&[], "{\"a\":1}");
    assert_eq!(trial.get("/").body, "1 none");
    assert_eq!(Trial::of(steps).answering(&[], " ").get("/").fault.as_deref(), Some("body.invalid_json"));
    let trial = Trial::of("  - respond: { text: \"${request.json.a ?? 'none'}\" }");
    assert_eq!(trial.send("POST", "/", &[], "").body, "none");
    let outcome = trial.send("POST", "/", &[], " ");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("body.invalid_json")));
}

#[test]
fn a_refused_path_is_recorded_as_it_was_written() {
    let trial = Trial::of("  - respond: 204");
    let outcome = trial.get("/a/%2e%2e/b%00?x=1");
    assert_eq!((outcome.fault.as_deref(), &*outcome.record.path), (Some("request.path"), "/a/%2e%2e/b%00"));
    let long = trial.get(&format!("/%00{}", "x".repeat(4000)));
    assert_eq!((long.record.path.len(), &long.record.path[..5]), (1024, "/%00x"));
}

#[test]
fn an_answer_without_a_body_counts_as_sent() {
    let trial = Trial::of("  - respond: { text: hello }");
    let outcome = trial.send("HEAD", "/", &[], "");
    assert_eq!((outcome.header("content-length"), &*outcome.body), (Some("5"), ""));
    assert_eq!((outcome.record.outcome, outcome.record.bytes_out), ("sent", 0));
    let trial = Trial::of("  - rewrite: { method: GET }\n  - respond: { text: hello }");
    assert_eq!(trial.send("HEAD", "/", &[], "").body, "");
    let trial = Trial::of("  - respond: 204");
    let outcome = trial.get("/");
    assert_eq!((outcome.record.outcome, outcome.header("content-length")), ("sent", None));
}

#[test]
fn asking_for_a_word_agrees_with_reading_the_value() {
    // `x == 'word'` asks without a value, `(x ?? '') == 'word'` and `x in [..]` read one.
    let words = ["GET", "/", "trial.example", "b", "", "B", "\u{fffd}"];
    let paths = ["request.method", "request.path", "request.host", "request.headers.x_a", "request.headers.x_none"];
    for path in paths {
        for word in words {
            let steps = format!(
                "  - respond: {{ text: \"${{{path} == '{word}'}} ${{{path} in ['{word}']}} ${{{path} != '{word}'}}\" }}"
            );
            let body = Trial::of(&steps).send("GET", "/", &[("x-a", "b")], "").body;
            assert!(["true true false", "false false true"].contains(&&*body), "{path} {word}: {body}");
        }
    }
}
