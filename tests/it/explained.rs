//! `check --explain` over the shipped policies and over a set with defaults and fragments, word by word.

use std::path::Path;

use serde_json::Value as Json;

use crate::harness::{Folder, gatewright};
use crate::language_server::root;

/// Everything that puts a step into a pipeline, means a message or holds a body.
const WHOLE: &str = r#"fragment: checks
policy:
  - restrict_ip: [10.0.0.0/8]
  - set_headers: { x-checked: "yes" }
---
defaults: house
before:
  - limit_size: 1MiB
on_fault:
  - set_headers: { x-request-id: "${request.id}" }
finally:
  - log: "${answer.status ?? 0}"
---
api_keys: partners
entries: []
---
service: orders
match: { path: "/orders/{id}", methods: [GET, PUT] }
policy:
  - authenticate_api_key: partners
  - include: checks
  - if: request.method == "PUT"
    then:
      - set_body: { json: { id: "${path.id}", was: "${request.json}" } }
  - name: to the backend
    route: http://127.0.0.1:9000
  - set_headers: { x-order: "2" }
  - remove_headers: { names: [server], message: answer }
"#;

/// Steps that run at once, groups and what is only tried.
const AT_ONCE: &str = r#"api_keys: people
entries: []
---
api_keys: machines
entries: []
---
service: reports
match: { path: /reports, methods: [GET] }
policy:
  - parallel:
      timeout: 2s
      steps:
        - authenticate_api_key: { keys: people, from: { header: x-person } }
        - { authenticate_api_key: machines, as: machine }
        - all:
            steps:
              - compare: request.query.kind != ''
                when: exists(request.query.kind)
  - parallel:
      steps:
        - compare: auth.subject != machine.subject
        - restrict_ip: [10.0.0.0/8]
    shadow: true
  - respond: { json: { who: "${auth.subject}", machine: "${machine.subject}" } }
"#;

fn assert_golden(name: &str, said: &str) {
    let golden = root().join("tests/explained").join(name);
    if std::env::var_os("GATEWRIGHT_BLESS").is_some() {
        std::fs::write(&golden, said).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        said == expected,
        "{}: bless it where this is right\n-- expected\n{expected}\n-- said\n{said}",
        golden.display()
    );
}

/// Pipelines without the last line, which holds the version of the files.
fn explained(folder: &Path) -> String {
    let said = gatewright(folder, &["check", "--explain"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let (pipelines, last) = said.out.trim_end().rsplit_once('\n').unwrap();
    assert!(last.contains(", version "), "{last}");
    pipelines.to_owned() + "\n"
}

#[test]
fn the_shipped_policies_are_explained() {
    assert_golden("policies.txt", &explained(&root()));
}

#[test]
fn what_stands_in_no_service_is_explained() {
    let folder = Folder::with(&[("policies/a.yaml", WHOLE)]);
    assert_golden("whole.txt", &explained(&folder.0));
    let said = gatewright(&folder.0, &["check", "--explain", "--json"]);
    let mut json: Json = serde_json::from_str(&said.out).unwrap();
    assert!(json.as_object_mut().unwrap().remove("version").is_some_and(|version| version.is_string()));
    assert_golden("whole.json", &(serde_json::to_string_pretty(&json).unwrap() + "\n"));
}

#[test]
fn what_runs_at_once_is_explained() {
    let folder = Folder::with(&[("policies/a.yaml", AT_ONCE)]);
    assert_golden("parallel.txt", &explained(&folder.0));
}
