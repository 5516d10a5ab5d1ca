//! What the pages promise of records, numbers and `/readyz`, held against real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Value as Json, json};

use crate::harness::{ANY_PORT, Answer, Folder, Gateway, exchange, hello};
use crate::misbehaving::{Then, good, serve};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The cells of all rows of a page whose first cell is a name between backticks, below a heading.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
    let (_, below) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let below = below.split("\n## ").next().unwrap();
    let rows = below.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn name(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// Kind and labels of every number on the page, by its name.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let labels = |cell: &str| cell.split(", ").filter(|label| !label.is_empty()).map(name).collect();
    let numbers = rows("docs/records.md", "Metrics").into_iter();
    let numbers = numbers.map(|row| match &row[..] {
        [of, kind, labels_of, _] => (name(of), (kind.clone(), labels(labels_of))),
        other => panic!("{other:?}"),
    });
    numbers.filter(|(name, _)| name != "gatewright_custom_NAME").collect()
}

/// The same of a scrape.
fn exposed(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut all: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let labels = Regex::new("([a-z_]+)=\"").unwrap();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((full, rest)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| full.strip_suffix(end)).unwrap_or(full);
            let found = labels.captures_iter(rest).map(|found| found[1].to_owned()).filter(|label| label != "le");
            all.get_mut(name).unwrap_or_else(|| panic!("{name} has no TYPE")).1.extend(found);
        }
    }
    all
}

#[test]
fn every_number_of_the_sources_is_on_the_page() {
    let names = Regex::new("\"(gatewright_[a-z_]+)\"").unwrap();
    let mut used = BTreeSet::new();
    let mut folders = vec![Path::new(ROOT).join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let text = std::fs::read_to_string(path).unwrap();
                    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                    used.extend(names.captures_iter(text).map(|found| found[1].to_owned()));
                }
            }
        }
    }
    assert_eq!(used, documented().into_keys().collect());
}

const MANY: &str = "
service: count
match: { path: /count }
policy:
  - count_metric: { name: seen, labels: { who: \"${request.query.who}\" } }
  - count_metric: { name: odd, value: \"${request.query.who}\" }
  - respond: 204
---
service: many
match: { path: /many }
policy:
  - route: many
";

#[test]
fn a_process_exposes_what_the_page_says() {
    let upstream = serve(Arc::new(|_, connection| (good(connection), Then::Serve)));
    let collector = serve(Arc::new(|_, _| (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), Then::Close)));
    let keys = serve(Arc::new(|_, _| (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec(), Then::Close)));
    let config = format!(
        "listeners:\n  - {{ name: main, address: 127.0.0.1:0 }}\n  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificate: \
         gw.pem, key: gw.key }} }}\nadmin: {{ address: 127.0.0.1:0 }}\nworkers: 1\notlp: {{ endpoint: \
         \"http://{collector}\" }}\n"
    );
    let resources = format!(
        "upstream: many\ntargets: [\"http://{upstream}\"]\n---\nidentity_provider: corp\nkind: jwt\nissuer: https://idp\n\
         keys: {{ url: \"http://{keys}/jwks\" }}\naudience: orders\n---\nservice: orders\nmatch: {{ path: /orders }}\n\
         policy:\n  - authenticate_jwt: corp\n  - respond: 204\n---\nsecret: crm\nfrom: {{ file: crm.secret }}\n---\n\
         oauth_session: crm\nkind: oauth2\ngrant: refresh_token\ntoken_url: \"http://{keys}/token\"\nclient: {{ id: a, secret: \
         {{ secret: crm }} }}\nallowed_origins: [\"http://{upstream}\"]\n---\nservice: crm\nmatch: {{ path: /crm }}\n\
         policy:\n  - inject_oauth_token: crm\n  - route: many\n"
    );
    let folder = Folder::with(&[
        ("gateway.yaml", &config),
        ("policies/many.yaml", MANY),
        ("policies/resources.yaml", &resources),
        ("policies/hello.yaml", &hello("hello", "x")),
        ("crm.secret", "a-secret-of-the-crm"),
    ]);
    let certificate = || rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let write = |folder: &Folder| {
        let pair = certificate();
        folder.write("gw.pem", &pair.cert.pem());
        folder.write("gw.key", &pair.signing_key.serialize_pem());
    };
    write(&folder);
    let gateway = Gateway::serve(folder);
    assert_eq!(gateway.get("/count?who=ann").status, 204);
    assert_eq!(gateway.get("/many").body, "good");
    assert_eq!(gateway.get("/crm").status, 503, "nobody has connected the session");
    assert_eq!(gateway.get("/nothing").status, 404);
    gateway.folder.write("policies/hello.yaml", &hello("hello", "y"));
    gateway.logged("reloaded");
    write(&gateway.folder);
    gateway.logged("new certificates serve");
    let page = documented();
    let complete = |answer: &Answer| exposed(&answer.body).keys().filter(|name| page.contains_key(*name)).count();
    let answer = gateway.admin_until("/metrics", |answer| complete(answer) == page.len());
    let mut found = exposed(&answer.body);
    assert_eq!(found.remove("gatewright_custom_seen"), Some(("counter".into(), ["who".to_owned()].into())));
    assert_eq!(found, page);
}

/// What the page says of the members of a record: their types, and whether they are always there.
fn members() -> BTreeMap<String, (String, bool)> {
    let rows = rows("docs/records.md", "Access records").into_iter();
    let member = |row: Vec<String>| match &row[..] {
        [of, kind, there, ..] if ["always", "sometimes"].contains(&there.as_str()) => {
            (name(of), (kind.clone(), there == "always"))
        }
        other => panic!("{other:?}"),
    };
    rows.map(member).collect()
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::String(_) => "text",
        Json::Number(number) if number.is_u64() => "number",
        Json::Array(_) => "list",
        Json::Object(_) => "object",
        _ => "another",
    }
}

const KEYS: &str = "
api_keys: press
entries:
  # of the key `press-key-0123456789`
  - { id: newsroom, hash: \"sha256:a3a00165ea8e38361c192225cac3916a149d0fd60205ae0536dc5b8dbdb699d9\", client: newsroom }
---
service: all
match: { path: /all }
policy:
  - authenticate_api_key: press
  - restrict_ip: [10.0.0.0/8]
    shadow: true
  - raise: { status: 503, code: house.down }
    shadow: true
  - try:
      - raise: { code: house.closed, status: 503 }
        when: request.method == 'GET'
    catch:
      - set: { seen: yes }
  - audit: { level: warning, message: looked at, fields: { seen: \"${seen}\" } }
  - route: many
";

#[test]
fn a_record_has_the_members_of_the_page() {
    let upstream = serve(Arc::new(|_, connection| (good(connection), Then::Serve)));
    let target = format!("upstream: many\ntargets: [\"http://{upstream}\"]\n");
    let config = format!("{ANY_PORT}otlp: {{ endpoint: \"http://{upstream}\", sample: 0% }}\n");
    let files = [("gateway.yaml", &*config), ("policies/all.yaml", KEYS), ("policies/target.yaml", &target)];
    let gateway = Gateway::start(&files);
    let page = members();
    let mut seen = BTreeSet::new();
    let mut hold = |record: Json| {
        for (member, value) in record.as_object().unwrap() {
            let (wanted, _) = page.get(member).unwrap_or_else(|| panic!("`{member}` is not on the page: {record}"));
            assert_eq!(kind(value), wanted, "{member}: {record}");
            seen.insert(member.clone());
        }
        for (member, _) in page.iter().filter(|(_, (_, always))| *always) {
            assert!(record.get(member).is_some(), "no `{member}` in {record}");
        }
        record
    };
    let main = gateway.main;
    let fields = format!("host: {main}\r\nx-api-key: press-key-0123456789\r\nconnection: close");
    assert_eq!(exchange(main, &format!("GET /all HTTP/1.1\r\n{fields}\r\n\r\n")).body, "good");
    let record = hold(gateway.record("/all"));
    assert_eq!(record["caught"][0]["fault"], "house.closed");
    assert_eq!((&record["upstream_status"], &record["client"]), (&json!(200), &json!("newsroom")));
    for noted in ["caught", "would_deny", "would_break"].iter().flat_map(|list| record[*list].as_array().unwrap()) {
        let names: BTreeSet<&str> = noted.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(names.contains("fault") && names.is_subset(&["step", "fault", "detail"].into()), "{noted}");
    }
    assert_eq!(gateway.get("/all").status, 401);
    let denied = hold(gateway.record("/all"));
    assert_eq!(
        (denied["outcome"].as_str(), denied["fault"].as_str()),
        (Some("denied"), Some("authenticate_api_key.missing"))
    );
    exchange(main, "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(hold(gateway.record(""))["fault"], "request.framing");
    assert_eq!(seen, page.keys().cloned().collect(), "every member was there once");
}

#[test]
fn readyz_tells_of_keys_upstreams_and_reloads() {
    let upstream = serve(Arc::new(|_, connection| (good(connection), Then::Serve)));
    let gone = serve(Arc::new(|_, _| (Vec::new(), Then::Close)));
    let keys = gatewright::jose::SigningKey::generate(gatewright::jose::Algorithm::Es256).unwrap().named("a");
    let keys = json!({ "keys": [keys.to_public_jwk()] }).to_string();
    let keys = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len()).into_bytes();
    let provider = serve(Arc::new(move |path, _| match path {
        "/jwks" => (keys.clone(), Then::Close),
        _ => (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec(), Then::Close),
    }));
    let provide = |name: &str, path: &str| {
        format!(
            "identity_provider: {name}\nkind: jwt\nissuer: https://{name}\nkeys: {{ url: \"http://{provider}{path}\" }}\n\
             audience: a\n---\nservice: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - authenticate_jwt: {name}\n  - \
             respond: 204\n---\n"
        )
    };
    let policy = format!(
        "{}{}upstream: many\ntargets: [\"http://{upstream}\", \"http://{gone}\"]\neject: {{ failures: 1, for: 1h, at_most: \
         100% }}\n---\nservice: many\nmatch: {{ path: /many }}\npolicy:\n  - route: many\n",
        provide("good", "/jwks"),
        provide("bad", "/none"),
    );
    let gateway = Gateway::start(&[("policies/all.yaml", &policy)]);
    let fetched = |name: &str| format!("http://{provider}{name}");
    let ready = gateway.admin_until("/readyz", |answer| {
        let keys = &answer.json()["keys"];
        keys[fetched("/jwks")]["fetched"] == true && keys[fetched("/none")]["last_error"].is_string()
    });
    let ready = ready.json();
    let (good, bad) = (&ready["keys"][fetched("/jwks")], &ready["keys"][fetched("/none")]);
    assert_eq!((&good["keys"], &good["stale"], &good["last_error"]), (&json!(1), &json!(false), &Json::Null));
    assert!(good["age_s"].as_i64().is_some_and(|age| (0..60).contains(&age)), "{good}");
    assert_eq!((&bad["fetched"], &bad["age_s"], &bad["stale"]), (&json!(false), &Json::Null, &json!(true)));
    assert_eq!(ready["upstreams"], json!({ "many": { "targets": 2, "usable": 2 } }));
    assert_eq!((&ready["reload"]["last"]["result"], &ready["reload"]["last_error"]), (&json!("started"), &Json::Null));
    assert_eq!(ready["reload"]["last_good"]["version"], ready["snapshot"]);

    for _ in 0..2 {
        gateway.get("/many");
    }
    assert_eq!(gateway.ask_admin("GET", "/readyz").json()["upstreams"]["many"], json!({ "targets": 2, "usable": 1 }));

    gateway.folder.write("policies/b.yaml", "service: b\nmatch: { path: /b }\npolicy:\n  - respnd: 200\n");
    gateway.logged("the changed files are not taken");
    let reload = gateway.ask_admin("GET", "/readyz").json()["reload"].clone();
    assert_eq!((&reload["last"]["result"], &reload["last_good"]), (&json!("refused"), &ready["reload"]["last_good"]));
    let error = &reload["last_error"];
    assert_eq!((&error["code"], &error["line"]), (&json!("policy.unknown_assertion"), &json!(4)));
    assert_eq!((&error["file"], &error["errors"]), (&json!("policies/b.yaml"), &json!(1)));
    assert!(error["message"].as_str().is_some_and(|message| message.contains("respnd")), "{error}");
    gateway.folder.write("policies/b.yaml", &hello("b", "x"));
    gateway.logged("reloaded");
    let again = gateway.ask_admin("GET", "/readyz").json();
    assert_eq!((&again["reload"]["last"]["result"], &again["reload_failing"]), (&json!("swapped"), &json!(false)));
    assert_eq!(&again["reload"]["last_error"], error, "whoever looks later finds it");
    assert_ne!(again["reload"]["last_good"], ready["reload"]["last_good"]);
}
