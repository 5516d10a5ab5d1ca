//! The detail of a fault is for records, never for clients.

use super::{Trial, refusals, service};

fn on_fault(steps: &str) -> String {
    service(&format!("  - raise: {{ status: 403, code: trial.no, detail: inside-7 }}\non_fault:\n{steps}"))
}

#[test]
fn the_detail_of_a_fault_never_reaches_a_client() {
    for leak in [
        "  - respond: { status: 500, text: \"${fault.detail}\" }",
        "  - respond: { status: 500, json: { why: [\"${upper(fault.detail)}\"] } }",
        "  - set_headers: { x-why: \"no ${fault.detail}\" }",
        "  - raise: { status: 400, code: trial.no, text: \"${fault.detail + request.path}\" }",
        "  - set: { why: \"${fault.detail}\" }\n  - respond: { status: 500, text: \"${why}\" }",
    ] {
        let steps = format!("  - respond: 200\non_fault:\n{leak}");
        assert!(refusals(&steps).contains(&"policy.detail_leak"), "{leak}: {:?}", refusals(&steps));
    }
}

#[test]
fn a_record_shows_the_detail_of_a_fault_and_hides_the_token_beside_it() {
    let audit = "  - audit: { fields: { why: \"${fault.detail}\", \
                 both: \"${fault.detail} ${request.headers.authorization ?? ''}\" } }";
    let trial = Trial::of_set(&on_fault(audit));
    let record = trial.send("GET", "/", &[("authorization", "Bearer token-1")], "").record;
    let line = {
        let mut line = String::new();
        record.write_line(&mut line);
        line
    };
    assert!(line.contains("\"why\":\"inside-7\"") && line.contains("\"both\":\"inside-7 "), "{line}");
    assert!(!line.contains("token-1"), "{line}");
    // Made one, they are neither for a client nor for a record.
    let mixed = "  - respond: 200\non_fault:\n  \
                 - log: \"${fault.detail + (request.headers.authorization ?? '')}\"";
    assert_eq!(refusals(mixed), ["policy.secret_leak"]);
}
