//! Lines of `log` steps as the process writes them: levels, marks, shares and bounds.

use serde_json::{Value as Json, json};

use crate::harness::{Gateway, exchange};

const SERVICE: &str = r#"
service: said
match: { path: "/{*rest}" }
policy:
  - log: { message: "never ${request.path}", sample: 0 }
  - log: { message: "first ${request.query.a ?? ''}", level: warn, fields: { none: "${request.query.none}", n: "${len(request.path)}", t: "${request.headers.authorization}", card: "${request.query.card}" } }
  - log: "second ${request.headers.authorization ?? ''} ${request.query.card ?? ''}"
  - log: { message: "long ${request.text}", fields: { more: "${request.text}" } }
  - scrub: { rules: [pan], from: log }
  - respond: 204
"#;

fn fields(line: &Json) -> Json {
    match &line["fields"] {
        Json::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    }
}

#[test]
fn a_line_forges_nothing_and_shows_no_credential() {
    let gateway = Gateway::start(&[("policies/said.yaml", SERVICE)]);
    let body = "x".repeat(20_000);
    let request = format!(
        "POST /p?a=b%0Ac&card=4111111111111111 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer zebra\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(exchange(gateway.main, &request).status, 204);
    let first = gateway.logged("first");
    assert_eq!((&first["message"], &first["level"]), (&json!("first b\\nc"), &json!("WARN")), "{first}");
    let shown = fields(&first);
    assert_eq!((&shown["none"], &shown["n"], &shown["card"]), (&Json::Null, &json!(2), &json!("411111******1111")));
    assert!(shown["t"].as_str().unwrap().starts_with('#'), "{first}");
    let second = gateway.logged("second");
    let message = second["message"].as_str().unwrap();
    assert!(message.starts_with("second #") && message.ends_with(" 411111******1111"), "{message}");
    let long = gateway.logged("long");
    let bytes = long["message"].as_str().unwrap().len() + long["fields"].as_str().map_or(0, str::len);
    assert!((16_000..=16 * 1024).contains(&bytes), "{bytes}");
}
