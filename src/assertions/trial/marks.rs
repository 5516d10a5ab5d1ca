//! What steps have put into a message keeps its mark when it is read back.

use crate::assertions::trial::{Trial, codes, service};

const SECRET: &str = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
const UPSTREAM: &str = "upstream: login\ntargets: [\"https://a.example\", \"https://b.example\"]\n---\n";
const FIELD: &str = "  - set_headers: { x-key: \"${secret('partner')}\" }\n";
const BODY: &str = "  - set_body: { json: { user: gw, key: \"${secret('partner')}\" } }\n";
const ROUTE: &str = "  - route: http://127.0.0.1:9000\n";
const NAMED: &str = "  - route: { to: \"https://a.example\", secrets_to: https://a.example }\n";
/// The value of `PARTNER_SECRET`.
const VALUE: &str = "test-value-0123456789";

fn with(steps: &str) -> Vec<&'static str> {
    codes(&format!("{SECRET}{UPSTREAM}{}", service(steps)))
}

#[test]
fn a_secret_in_a_field_of_the_request_is_one_when_it_is_read_back() {
    assert!(with(&format!("{FIELD}{ROUTE}")).is_empty());
    assert!(
        with(&format!("{FIELD}  - set_headers: {{ x-b: \"${{request.headers.x_key ?? ''}}\" }}\n{ROUTE}")).is_empty()
    );
    for leak in [
        "  - log: \"${request.headers.x_key ?? ''}\"\n",
        "  - log: \"${request.headers.x_key.all ?? []}\"\n",
        "  - log: \"${request.headers}\"\n",
        "  - set: { a: \"${request.headers['X-Key'] ?? ''}\" }\n  - log: \"${a}\"\n",
        "  - rewrite: { query: { set: { k: \"${request.headers.x_key ?? ''}\" } } }\n",
        "  - rewrite: { path: \"/${request.headers.x_key ?? ''}\" }\n",
    ] {
        assert_eq!(with(&format!("{FIELD}{leak}{ROUTE}")), ["policy.secret_leak"], "{leak}");
        if !leak.contains("all") {
            assert_ne!(with(&format!("{leak}{FIELD}{ROUTE}")), ["policy.secret_leak"], "nothing is there yet: {leak}");
        }
    }
    assert_eq!(
        with(&format!("{FIELD}  - respond: {{ text: \"${{request.headers.x_key ?? ''}}\" }}")),
        ["policy.secret_leak"]
    );
    let cookie = "  - set_headers: { cookie: \"s=${secret('partner')}\" }\n";
    assert_eq!(
        with(&format!("{cookie}  - respond: {{ text: \"${{request.cookies.s ?? ''}}\" }}")),
        ["policy.secret_leak"]
    );
}

#[test]
fn what_comes_after_a_way_that_may_have_put_it_there_counts() {
    let log = "  - log: \"${request.headers.x_key ?? ''}\"\n";
    let put = "set_headers: { x-key: \"${secret('partner')}\" }";
    for steps in [
        format!("  - {put}\n    when: request.method == 'GET'\n{log}"),
        format!("  - if: request.method == 'GET'\n    then: [{{ {put} }}]\n{log}"),
        format!("  - any:\n      - {put}\n      - restrict_ip: 10.0.0.0/8\n{log}"),
        format!(
            "  - for_each: {{ in: \"request.json.rows ?? []\", limit: 2 }}\n    do:\n      - log: \"${{request.headers.x_key ?? ''}}\"\n      - {put}\n"
        ),
    ] {
        assert_eq!(with(&format!("{steps}{ROUTE}")), ["policy.secret_leak"], "{steps}");
    }
    let service = service(&format!("  - {put}\n{ROUTE}"));
    for tail in ["on_fault", "finally"] {
        let set = format!("{SECRET}{service}{tail}:\n{log}");
        assert_eq!(codes(&set), ["policy.secret_leak"], "{tail}");
    }
    let over = "  - set_headers: { x-key: plain }\n";
    assert!(with(&format!("{FIELD}{over}{log}{ROUTE}")).is_empty(), "it is not there any more");
    let more = "  - set_headers: { x-key: { append: plain } }\n";
    assert_eq!(with(&format!("{FIELD}{more}{log}{ROUTE}")), ["policy.secret_leak"]);
}

#[test]
fn a_body_with_a_secret_goes_to_who_is_named_only() {
    let route = |params: &str| with(&format!("{BODY}  - route: {{ {params} }}\n"));
    assert_eq!(with(&format!("{BODY}{ROUTE}")), ["policy.secret_in_body"]);
    assert_eq!(route("to: \"https://a.example\""), ["policy.secret_in_body"]);
    assert!(route("to: \"https://a.example/login\", secrets_to: https://a.example").is_empty());
    assert_eq!(route("to: \"https://a.example\", secrets_to: https://a.example:444"), ["policy.secret_in_body"]);
    assert_eq!(route("to: \"http://a.example\", secrets_to: https://a.example"), ["policy.secret_in_body"]);
    assert_eq!(route("to: \"http://a.example\", secrets_to: http://a.example"), ["policy.bad_value"]);
    assert_eq!(route("upstream: login, secrets_to: https://a.example"), ["policy.secret_in_body"]);
    assert!(route("upstream: login, secrets_to: [https://a.example, https://b.example]").is_empty());
    let chosen = "to: \"https://${request.query.h ?? 'a'}.example\", allowed_hosts: \"*.example\"";
    assert_eq!(route(&format!("{chosen}, secrets_to: https://a.example")), ["policy.secret_in_body"]);
    // The next route has no such body, or has it too.
    assert_eq!(with(&format!("{BODY}{NAMED}{ROUTE}")), ["policy.secret_in_body"]);
    let plain = "  - set_body: { text: plain, message: request }\n";
    assert!(with(&format!("{BODY}{NAMED}{plain}{ROUTE}")).is_empty());
    let outcome = Trial::of_set(&format!("{SECRET}{}", service(&format!("{BODY}{NAMED}")))).send("POST", "/", &[], "x");
    assert_eq!(outcome.sent[0].body, format!("{{\"user\":\"gw\",\"key\":\"{VALUE}\"}}"));
}

#[test]
fn a_body_with_a_secret_is_read_back_by_nobody_who_shows_it() {
    let behind = |step: &str| with(&format!("{BODY}  - {step}\n{NAMED}"));
    for leak in [
        "log: \"${request.json.key}\"",
        "log: \"${request.text}\"",
        "log: \"${request.form.key ?? ''}\"",
        "audit: { save: [request_body] }",
        "count_metric: { name: a, labels: { a: \"${request.text}\" } }",
    ] {
        assert_eq!(behind(leak), ["policy.secret_leak"], "{leak}");
    }
    assert_eq!(behind("match_regex: { pattern: a }"), ["expr.marked_order"]);
    let path = "evaluate_json_path: $.key\n  - log: \"${json_path.value}\"";
    assert_eq!(behind(path), ["policy.secret_leak"]);
    let hash = "generate_security_hash: { algorithm: sha256 }\n  - log: \"${hash.value}\"";
    assert_eq!(behind(hash), ["policy.secret_leak"]);
    let after = format!("{BODY}{NAMED}  - set_body: {{ value: \"${{request.body}}\" }}\n");
    assert_eq!(with(&after), ["policy.secret_leak"]);
    assert!(with(&format!("  - audit: {{ save: [request_body] }}\n{BODY}{NAMED}")).is_empty());
}

#[test]
fn a_token_that_was_put_into_a_message_is_a_hash_in_records() {
    let steps = "  - set_headers: { x-caller: \"${request.headers.authorization ?? ''}\" }
  - audit: { message: \"of ${request.headers.x_caller ?? ''}\", save: [request_headers] }
  - respond: { headers: { x-back: \"${request.headers.x_caller ?? ''}\" } }";
    let set = format!(
        "{}finally:\n  - audit: {{ fields: {{ back: \"${{answer.headers.x_back ?? ''}}\" }} }}\n",
        service(steps)
    );
    let outcome = Trial::of_set(&set).send("GET", "/", &[("authorization", "Bearer zebra")], "");
    assert_eq!(outcome.header("x-back"), Some("Bearer zebra"));
    let mut line = String::new();
    outcome.record.write_line(&mut line);
    assert!(line.contains("of #") && line.contains("\"back\":\"#") && line.contains("\"x-caller\":\"#"), "{line}");
    assert!(!line.contains("zebra"), "{line}");
    let body = "  - set_body: { json: { t: \"${request.headers.authorization ?? ''}\" } }\n";
    assert_eq!(with(&format!("{body}  - audit: {{ save: request_body }}\n{ROUTE}")), ["policy.secret_leak"]);
}

#[test]
fn a_secret_is_no_part_of_a_url() {
    for params in [
        "\"https://a.example/${secret('partner')}\"",
        "\"https://a.example/x?k=${secret('partner')}\"",
        "\"https://${secret('partner')}.example\"",
        "{ upstream: login, path: \"/${secret('partner')}\" }",
        "{ upstream: login, query: \"k=${secret('partner')}\" }",
    ] {
        assert_eq!(with(&format!("  - route: {params}\n")), ["policy.secret_leak"], "{params}");
    }
    let query = "  - rewrite: { query: { add: { k: \"${secret('partner')}\" } } }\n";
    assert_eq!(with(&format!("{query}{ROUTE}")), ["policy.secret_leak"]);
}

#[test]
fn whatever_reads_a_message_reads_its_marks() {
    let put = |field: &str| format!("  - set_headers: {{ {field}: \"${{secret('partner')}}\" }}\n");
    let media = put("content-type");
    assert_eq!(
        with(&format!("{media}  - respond: {{ text: \"${{request.content_type ?? ''}}\" }}")),
        ["policy.secret_leak"]
    );
    let keys = "api_keys: keys\nentries:\n  - { id: a, hash: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\" }\n---\n";
    let key = format!(
        "{}  - authenticate_api_key: {{ keys: keys, from: {{ header: x-api-key }} }}\n  - respond: {{ text: \"${{auth.credential ?? ''}}\" }}",
        put("x-api-key")
    );
    assert_eq!(codes(&format!("{SECRET}{keys}{}", service(&key))), ["policy.secret_leak"]);
    // A field that is gone, and one that is gone on one way only.
    let log = "  - log: \"${request.headers}\"\n";
    assert!(with(&format!("{FIELD}  - remove_headers: x-key\n{log}{ROUTE}")).is_empty());
    let some = "  - when: request.method == 'GET'\n    remove_headers: x-key\n";
    assert_eq!(with(&format!("{FIELD}{some}{log}{ROUTE}")), ["policy.secret_leak"]);
    // Each round hands a value on to one more field.
    let chain =
        (1..9).map(|n| format!("      - set_headers: {{ x-{n}: \"${{request.headers.x_{} ?? ''}}\" }}\n", n + 1));
    let rounds = format!(
        "  - for_each: {{ in: \"request.json.rows ?? []\", limit: 2 }}\n    do:\n{}",
        chain.collect::<String>()
    );
    let last = "  - log: \"${request.headers.x_1 ?? ''}\"\n";
    assert_eq!(with(&format!("{}{rounds}{last}{ROUTE}", put("x-9"))), ["policy.secret_leak"]);
    let coded = format!("{}  - decompress: {{ message: request }}\n{NAMED}", put("content-encoding"));
    let trial = Trial::of_set(&format!("{SECRET}{}", service(&coded)));
    let mut line = String::new();
    trial.send("POST", "/", &[], "x").record.write_line(&mut line);
    assert!(line.contains("decompress.unsupported") && !line.contains(VALUE), "{line}");
}

#[test]
fn no_claim_of_a_token_is_a_secret() {
    for part in ["issuer", "audience", "subject"] {
        let parts = ["issuer", "audience", "subject"]
            .map(|name| format!("{name}: \"{}\"", if name == part { "${secret('partner')}" } else { "a" }));
        let step = format!("  - issue_jwt: {{ key: signing, {} }}\n  - respond: 204", parts.join(", "));
        let own = "key: signing\nkind: private\nfrom: { generate: ES256 }\n---\n";
        assert_eq!(codes(&format!("{SECRET}{own}{}", service(&step))), ["policy.secret_leak"], "{part}");
    }
}

#[test]
fn a_secret_is_not_found_out_by_asking() {
    let asks = |condition: &str| with(&format!("  - when: \"{condition}\"\n    log: yes\n{ROUTE}"));
    let by_script = |condition: &str| with(&format!("  - script: \"let x = 1; {condition} && x == 1\"\n{ROUTE}"));
    for condition in [
        "contains(secret('partner'), request.query.q ?? '-')",
        "starts_with(secret('partner'), request.query.q ?? '-')",
        "ends_with(secret('partner'), request.query.q ?? '-')",
        "(request.query.q ?? '-') in secret('partner')",
        "len(replace(secret('partner'), request.query.q ?? '-', 'ab')) > 20",
        "left(secret('partner'), len(request.query.q ?? '')) == (request.query.q ?? '')",
        "len(split(secret('partner'), request.query.q ?? '')) == 2",
        "in_cidr(request.client.ip, secret('partner'))",
    ] {
        assert_eq!(asks(condition), ["expr.marked_order"], "{condition}");
        assert_eq!(by_script(condition), ["expr.marked_order"], "{condition}");
    }
    for name in ["secret(secret('partner'))", "list(secret('partner')) == []"] {
        let (_, codes, shown) = crate::assertions::trial::load(&format!(
            "{SECRET}{}",
            service(&format!("  - when: \"{name} == 'a'\"\n    log: yes\n{ROUTE}"))
        ));
        assert!(!codes.is_empty() && !shown.contains(VALUE), "{shown}");
    }
    for fine in [
        "(request.query.q ?? '-') in [secret('partner')]",
        "contains([secret('partner')], request.query.q ?? '-')",
        "sha256(join([secret('partner'), request.query.q ?? ''], ':')) == (request.query.sum ?? '')",
        "len(secret('partner')) > 3",
    ] {
        assert!(asks(fine).is_empty(), "{fine}");
    }
    let step = |left: &str, op: &str| {
        let right = "${request.query.q ?? ''}";
        with(&format!("  - compare: {{ left: \"{left}\", op: {op}, right: \"{right}\" }}\n{ROUTE}"))
    };
    for op in ["starts_with", "ends_with", "contains", "in", "lt"] {
        assert_eq!(step("${secret('partner')}", op), ["expr.marked_order"], "{op}");
    }
    assert!(step("${secret('partner')}", "eq").is_empty());
    assert!(step("${request.headers.authorization ?? ''}", "starts_with").is_empty());
    assert_eq!(step("${request.headers.authorization ?? ''}", "lt"), ["expr.marked_order"]);
    let put = "  - set_headers: { authorization: \"Bearer ${secret('partner')}\" }\n";
    let told = "  - audit: { fields: { there: \"${exists(request.headers.authorization)}\" } }\n  \
                - when: len(request.headers.authorization ?? '') > 4000\n    log: long\n";
    assert!(with(&format!("{put}{told}{ROUTE}")).is_empty(), "that it is there, and how long, is no secret");
    assert!(asks("starts_with(request.headers.authorization ?? '', 'Bearer ')").is_empty(), "the caller's own");
}

#[test]
fn a_token_stays_one_in_paths_queries_answers_and_texts_of_faults() {
    let shown = |steps: &str, tail: &str| {
        let set = format!("{}{tail}", service(steps));
        let outcome = Trial::of_set(&set).send("GET", "/", &[("authorization", "Bearer zebra")], "");
        let mut line = String::new();
        outcome.record.write_line(&mut line);
        assert!(!line.to_lowercase().contains("zebra"), "{line}");
        line
    };
    let token = "${request.headers.authorization ?? ''}";
    let audit = |value: &str| format!("  - audit: {{ fields: {{ a: \"{value}\" }} }}\n{ROUTE}");
    let hashed = "\"a\":\"#";
    let query = format!("  - rewrite: {{ query: {{ set: {{ t: \"{token}\" }} }} }}\n");
    for read in ["${request.query.t ?? ''}", "${request.query}", "${request.query.t.all ?? []}"] {
        assert!(shown(&format!("{query}{}", audit(read)), "").contains(hashed), "{read}");
    }
    let path = format!("  - rewrite: {{ path: \"/a/{token}\" }}\n");
    assert!(shown(&format!("{path}{}", audit("${request.path}")), "").contains(hashed));
    let raise = format!("  - raise: {{ status: 403, code: trial.no, text: \"{token}\" }}\n");
    let finally = "finally:\n  - audit: { fields: { a: \"${fault.text ?? ''}\" } }\n";
    assert!(shown(&raise, finally).contains(hashed));
    assert!(
        shown(&format!("  - script: \"deny('trial.no', 403, request.headers.authorization ?? '')\"\n{ROUTE}"), finally)
            .contains(hashed)
    );
    let answers = format!(
        "{ROUTE}  - set_headers: {{ x-a: \"{token}\" }}\n  - set_headers: {{ message: answer, headers: {{ x-a: fixed }} }}\n  \
         - audit: {{ save: response_headers, fields: {{ a: \"${{response.headers.x_a ?? ''}}\" }} }}\n"
    );
    assert!(shown(&answers, "").contains(hashed));
    let status = format!("  - respond: {{ status: \"{token}\" }}\n");
    assert!(shown(&status, "").contains("respond.bad_status"));
    let op = "---\nassertion: op\ninputs: { t: { type: string } }\noutputs: { headers: map }\npolicy:\n  - set: { headers: { x: \"${input.t}\" } }\n";
    let use_op = format!("  - op: {{ t: \"{token}\" }}\n{}", audit("${op.headers.x ?? ''}"));
    assert!(shown(&use_op, op).contains(hashed));
}

#[test]
fn a_body_from_a_file_shows_no_secret() {
    // Tests run in the folder of the package, which is that of gateway.yaml here.
    let folder = std::path::PathBuf::from(format!("target/marks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text, refused) in [
        ("own", format!("key={VALUE}\n"), true),
        ("key.pem", "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n".to_owned(), true),
        ("key.jwk", "{\"kty\":\"EC\", \"d\" : \"AA\"}".to_owned(), true),
        ("keys.jwks", "{\"keys\": [{\"kty\":\"oct\",\"k\":\"AA\"}]}".to_owned(), true),
        ("public.jwk", "{\"kty\":\"EC\",\"x\":\"AA\"}".to_owned(), false),
        ("answer.json", "{\"d\":{\"results\":[]}}".to_owned(), false),
        ("page", "<p>test-value</p>".to_owned(), false),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        for steps in [
            format!("  - respond: {{ file: {} }}", file.display()),
            format!("  - set_body: {{ file: {} }}\n{ROUTE}", file.display()),
        ] {
            let expected: &[&str] = if refused { &["policy.secret_leak"] } else { &[] };
            assert_eq!(with(&steps), expected, "{steps}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn no_credential_names_a_caller_or_a_host() {
    for credential in ["${secret('partner')}", "${request.headers.authorization ?? ''}"] {
        let subject =
            format!("  - authenticate_mtls: {{ subject: \"{credential}${{cert.serial}}\" }}\n  - respond: 204");
        assert_eq!(with(&subject), ["policy.secret_leak"]);
        for word in ["route", "call_http"] {
            let to =
                format!("  - {word}: {{ to: \"http://{credential}.example\", allowed_hosts: \"*.example\" }}\n{ROUTE}");
            assert_eq!(with(&to), ["policy.secret_leak"], "{to}");
        }
    }
}

#[test]
fn what_an_authenticate_step_takes_is_a_token_before_it_too() {
    let keys = "api_keys: keys\nentries:\n  - { id: a, hash: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\" }\n---\n";
    for (from, read) in [
        ("{ header: x-foo }", "${request.headers.x_foo ?? ''}"),
        ("{ header: x-foo }", "${request.headers['x-foo'].all ?? []}"),
        ("{ query: k }", "${request.query.k ?? ''}"),
        ("{ query: k }", "${request.query}"),
        ("{ query: k }", "${request.original.query ?? ''}"),
        ("{ header: x-api-key }", "${request.headers.x_api_key ?? ''}"),
    ] {
        let audit = format!("  - audit: {{ fields: {{ a: \"{read}\" }} }}\n");
        let step = format!("{audit}  - authenticate_api_key: {{ keys: keys, from: {from} }}\n{ROUTE}");
        let trial = Trial::of_set(&format!("{keys}{}", service(&step)));
        let outcome = trial.send("GET", "/?k=zebra", &[("x-foo", "zebra"), ("x-api-key", "zebra")], "");
        let mut line = String::new();
        outcome.record.write_line(&mut line);
        assert!(line.contains("\"a\":\"#") && !line.contains("zebra"), "{from} {read}: {line}");
        if from.contains("header") {
            let saved = service(&step.replace(&audit, "  - audit: { save: request_headers }\n"));
            let outcome = Trial::of_set(&format!("{keys}{saved}")).send(
                "GET",
                "/",
                &[("x-foo", "zebra"), ("x-api-key", "zebra")],
                "",
            );
            let mut line = String::new();
            outcome.record.write_line(&mut line);
            let name = if from.contains("x-foo") { "x-foo" } else { "x-api-key" };
            assert!(line.contains(&format!("\"{name}\":\"#")), "{from}: {line}");
        }
        let label = format!("  - count_metric: {{ name: a, labels: {{ a: \"{read}\" }} }}\n");
        let counted = service(&step.replace(&audit, &label));
        assert!(codes(&format!("{keys}{counted}")).contains(&"policy.secret_leak"), "{read}");
    }
    // In a service that takes it from elsewhere it is a field as any other.
    let plain = "  - count_metric: { name: a, labels: { a: \"${request.headers.x_foo ?? ''}\" } }\n";
    assert!(!with(&format!("{plain}{ROUTE}")).contains(&"policy.secret_leak"));
}

#[test]
fn the_environment_does_not_give_a_secret_away() {
    let respond = |name: &str| format!("  - respond: {{ text: \"${{env.{name}}}\" }}");
    assert_eq!(with(&respond("PARTNER_SECRET")), ["policy.secret_leak"]);
    assert!(with(&respond("NEXT_SECRET")).is_empty(), "no document calls it a secret");
}

#[test]
fn who_is_named_gets_the_secret_under_its_own_name() {
    let route = |params: &str| with(&format!("{BODY}  - route: {{ secrets_to: https://a.example, {params} }}\n"));
    let refused = ["policy.secret_in_body"];
    assert_eq!(route("to: \"https://a.example\", host: client"), refused);
    assert_eq!(route("to: \"https://a.example\", host: b.example"), refused);
    assert_eq!(route("to: \"https://a.example\", tls: { server_name: b.example }"), refused);
    assert!(route("to: \"https://a.example\", host: a.example, tls: { server_name: a.example }").is_empty());
    let call = |params: &str| {
        let body = "method: POST, text: \"${secret('partner')}\", secrets_to: https://a.example";
        with(&format!("  - call_http: {{ to: \"https://a.example\", {body}{params} }}\n{ROUTE}"))
    };
    assert!(call("").is_empty());
    assert_eq!(call(", tls: { server_name: b.example }"), refused);
    let named = "upstream: own\ntargets: [\"https://a.example\"]\nhost: client\n---\n";
    let steps = format!("{BODY}  - route: {{ upstream: own, secrets_to: https://a.example }}\n");
    assert_eq!(codes(&format!("{SECRET}{named}{}", service(&steps))), refused);
}
