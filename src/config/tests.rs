//! What gateway.yaml may say, and what is said about its mistakes.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::source::render;

fn read_text(text: &str) -> Loaded {
    from_bytes(Path::new("conf/gateway.yaml"), text.as_bytes())
}

fn config(text: &str) -> Config {
    let loaded = read_text(text);
    assert!(!loaded.diags.has_errors(), "{}", render(&loaded.sources, &loaded.diags, false));
    loaded.config.unwrap()
}

/// The codes of all mistakes, in the order of the file.
fn codes(text: &str) -> Vec<&'static str> {
    let loaded = read_text(text);
    assert!(loaded.config.is_none(), "this was taken: {text}");
    loaded.diags.iter().map(|one| one.code).collect()
}

#[test]
fn an_empty_file_means_the_defaults_from_its_folder() {
    let config = config("");
    assert_eq!(config.listeners[0].server.address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.to_string(), "127.0.0.1:9901");
    assert_eq!(config.policies, Path::new("conf/policies"));
    assert_eq!(config.reload, Reload { settle: SETTLE, poll: Some(POLL_AUTO) });
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.audit, To::Stdout);
}

#[test]
fn every_key_is_read() {
    let config = config(
        r#"
version: 1
listeners:
  - { name: main, address: "0.0.0.0:80", trusted_proxies: [10.0.0.0/8, 192.0.2.1], behind_tls_proxy: true }
  - { name: inside, address: "[::1]:8081", allow_plaintext_credentials: true }
  - { name: near, address: "unix:run/gw.sock", mode: 0660 }
  - { name: own, address: "unix:/run/gw.sock" }
  - { name: passed, address: systemd:main }
admin: { address: "[::1]:9000" }
policies: /etc/gatewright/policies
assertions: own
state: ../state
counters: memory
workers: 3
drain: 5s
reload: { settle: 250ms, poll: off }
tests: { on_reload: skip, budget: 1s }
env: [STAGE, BACKEND]
audit: { file: audit.jsonl, rotate: 1MiB }
scrub: []
guessing: { failures: 3, within: 1m, pause: 2m, pause_max: 4m }
log: { level: debug, format: json }
limits: { head: 16KiB, body_buffered: 2MiB, request_time: 10s, headers: 50, body_rate: 0B, json_depth: 8 }
"#,
    );
    let addresses: Vec<_> = config.listeners[2..].iter().map(|listener| listener.server.address.clone()).collect();
    let expected = [
        Address::Unix { path: "conf/run/gw.sock".into(), mode: 0o660 },
        Address::Unix { path: "/run/gw.sock".into(), mode: 0o600 },
        Address::Passed("main".into()),
    ];
    assert_eq!(addresses, expected);
    let clear: Vec<bool> = config.listeners.iter().map(Listener::is_clear).collect();
    assert_eq!(clear, [false, false, false, false, true], "where a passed socket stands is not known");
    assert_eq!(config.listeners[0].server.trusted_proxies.len(), 2);
    assert!(config.listeners[0].server.behind_tls_proxy && config.listeners[1].allow_plaintext_credentials);
    assert_eq!(config.policies, Path::new("/etc/gatewright/policies"));
    assert_eq!(config.assertions, Path::new("conf/own"));
    assert_eq!((config.workers, config.drain), (3, Duration::from_secs(5)));
    assert_eq!(config.reload, Reload { settle: Duration::from_millis(250), poll: None });
    assert_eq!(config.tests, Tests { on_reload: false, budget: Duration::from_secs(1) });
    assert_eq!(config.audit, To::File { path: "conf/audit.jsonl".into(), rotate: 1 << 20 });
    assert_eq!((config.guessing.failures, config.guessing.pause_max_ms), (3, 240_000));
    assert_eq!(config.log, Log { level: tracing::Level::DEBUG, format: LogFormat::Json });
    assert_eq!((config.limits.head, config.limits.headers, config.limits.json_depth), (16 << 10, 50, 8));
    assert_eq!((config.limits.body_rate, config.limits.request_time), (0, Duration::from_secs(10)));
}

#[test]
fn bounds_of_http2_are_bounds_themselves() {
    let limits = "limits: { h2_streams: 10000, h2_window: 1KiB, h2_connection_window: 64KiB }";
    assert_eq!((config(limits).limits.h2_streams, config(limits).limits.h2_window), (10_000, 1024));
    let all = "limits: { h2_streams: 10001, h2_window: 1023B, h2_connection_window: 65535B, headers: 0 }";
    let too_far = "config.out_of_range";
    assert_eq!(codes(all), [too_far, too_far, too_far, "config.zero"]);
    assert_eq!(codes("limits: { h2_window: 17MiB, h2_connection_window: 2GiB }"), [too_far, too_far]);
}

#[test]
fn polling_takes_a_duration() {
    assert_eq!(config("reload: { poll: 5s }").reload.poll, Some(Duration::from_secs(5)));
    assert_eq!(config("reload: { poll: auto }").reload.poll, Some(POLL_AUTO));
    assert_eq!(codes("reload: { poll: often }"), ["config.bad_poll"]);
}

#[test]
fn all_mistakes_are_reported_at_once_and_underlined() {
    let text = "listenrs: []\nadmin: { address: 0.0.0.0:9901 }\nworkers: many\nlimits: { body_buffered: 0B }\n";
    let loaded = read_text(text);
    let shown = render(&loaded.sources, &loaded.diags, false);
    assert!(shown.contains("did you mean `listeners`"), "{shown}");
    assert!(shown.contains("conf/gateway.yaml:1:1"), "{shown}");
    // What a key means is judged once all keys are known.
    let found = codes("admin: { address: 0.0.0.0:9901 }\nworkers: many\nlimits: { body_buffered: 0B }\n");
    assert_eq!(found, ["config.admin_not_loopback", "config.bad_workers", "config.zero"]);
}

#[test]
fn what_is_not_served_is_refused_and_not_ignored() {
    for text in [
        "store: sqlite",
        "counters: redis://host:6379",
        "vault: { master_key: { file: key } }",
        "admin: { address: 127.0.0.1:1, token: t }",
        "admin: { address: 127.0.0.1:1, tls: { certificate: c, key: k } }",
        "audit: { store: true }",
        "limits: { inflate: 5MiB }",
    ] {
        assert_eq!(codes(text), ["config.not_supported"], "{text}");
    }
}

#[test]
fn scrub_rules_of_the_house_are_compiled_and_checked() {
    assert!(config("scrub: []").scrub.is_none());
    let rules = config("scrub: [pan, { header: x-patient, with: hash }, { json: $..ssn }]").scrub.unwrap();
    let mut text = "paid with 4111 1111 1111 1111".to_owned();
    assert_eq!((rules.rules.text(&mut text), text.as_str()), (1, "paid with 4111 11** **** 1111"));
    assert!(rules.audit && rules.log && rules.trace && rules.rules.0.len() == 3);
    assert_eq!(codes("scrub: [card]"), ["policy.bad_value"]);
    assert_eq!(codes("scrub: [{ regex: '(' }, { json: '$[' }]"), ["expr.bad_regex", "policy.bad_json_path"]);
}

#[test]
fn contradictions_are_refused() {
    for (text, code) in [
        ("version: 2", "config.bad_version"),
        ("listeners: []", "config.no_listener"),
        ("listeners: [{ name: a, address: 127.0.0.1:1 }, { name: a, address: 127.0.0.1:2 }]", "config.duplicate_name"),
        (
            "listeners: [{ name: a, address: 127.0.0.1:1 }, { name: b, address: 127.0.0.1:1 }]",
            "config.duplicate_address",
        ),
        ("listeners: [{ name: a, address: localhost:80 }]", "config.bad_address"),
        (
            "listeners: [{ name: a, address: unix:a }, { name: b, address: unix:a, mode: 660 }]",
            "config.duplicate_address",
        ),
        ("listeners: [{ name: a, address: systemd:m }, { name: b, address: systemd:m }]", "config.duplicate_address"),
        ("listeners: [{ name: a, address: 'unix:' }]", "config.bad_address"),
        ("listeners: [{ name: a, address: unix:@gateway }]", "config.bad_address"),
        ("listeners: [{ name: a, address: unix:run/ }]", "config.bad_address"),
        ("listeners: [{ name: a, address: 'systemd:' }]", "config.bad_address"),
        ("listeners: [{ name: a, address: 'systemd:a:b' }]", "config.bad_address"),
        ("listeners: [{ name: a, address: unix:a, mode: rw }]", "config.bad_mode"),
        ("listeners: [{ name: a, address: unix:a, mode: 1777 }]", "config.bad_mode"),
        ("listeners: [{ name: a, address: 127.0.0.1:1, mode: 660 }]", "config.bad_mode"),
        ("listeners: [{ name: a, address: 127.0.0.1:1, trusted_proxies: proxy }]", "config.bad_network"),
        ("audit: { to: stdout, file: a }", "config.contradiction"),
        ("audit: { rotate: 1MiB }", "config.contradiction"),
        ("otlp: { endpoint: 'http://127.0.0.1:4318', sample: 010% }", "config.bad_otlp"),
        ("otlp: { endpoint: 'http://127.0.0.1:4318', headers: { X-A: a, x-a: b } }", "config.bad_otlp"),
        ("env: [a-b]", "config.bad_name"),
        ("env: [A, A]", "config.duplicate_name"),
        ("guessing: { failures: 0 }", "config.bad_guessing"),
        ("version: 1\n---\nservice: a", "config.one_document"),
        ("workers: 0", "config.bad_workers"),
    ] {
        assert_eq!(codes(text), [code], "{text}");
    }
}

#[test]
fn a_named_file_has_to_be_there() {
    let loaded = load(Some(Path::new("/nowhere/gateway.yaml")));
    assert!(loaded.config.is_none());
    assert_eq!(loaded.diags.iter().map(|one| one.code).collect::<Vec<_>>(), ["config.unreadable"]);
}

#[test]
fn a_pipe_is_no_configuration_and_is_not_waited_for() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let path = std::env::temp_dir().join(format!("gatewright-config-pipe-{}", std::process::id()));
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let loaded = load(Some(&path));
    assert!(loaded.diags.iter().next().unwrap().message.contains("it is a pipe"), "{:?}", loaded.diags);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn records_in_a_file_are_named_where_they_belong() {
    for text in ["audit: { to: { file: a.jsonl } }", "audit: { to: file }", "audit: { to: a.jsonl }"] {
        let loaded = read_text(text);
        let one = loaded.diags.iter().next().unwrap();
        let help = one.help.as_deref().unwrap_or_default();
        assert!(help.contains("`audit: { file: NAME }`"), "{text}: {one:?}");
    }
}

#[test]
fn only_listed_variables_reach_the_policies() {
    let environment = Config { env: vec!["PATH".into(), "NOT_SET_ANYWHERE".into()], ..Config::default() }.environment();
    assert_eq!(environment.values.env.len(), 1);
    assert_eq!(environment.values.env_listed.len(), 2);
}

#[test]
fn a_listener_with_tls_reads_its_files_and_is_not_clear() {
    use crate::tls::testing::{Authority, Folder};
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let (certificate, key) = authority.sign(&["a.test"]);
    let (certificate, key) = (folder.write("a.pem", &certificate), folder.write("a.key", &key));
    let listener = |tls: &str| format!("listeners: [{{ name: main, address: \"0.0.0.0:1\", tls: {tls} }}]");
    let pair = format!("certificate: {}, key: {}", certificate.display(), key.display());
    let loaded = read_text(&listener(&format!("{{ {pair} }}")));
    let open = loaded.diags.iter().map(|one| one.code).collect::<Vec<_>>();
    assert_eq!(open, ["config.open_key"], "the test's key is for everybody");
    assert!(loaded.config.unwrap().environment().clear_listeners.is_empty());
    let several = config(&listener(&format!("{{ certificates: [{{ {pair} }}, {{ {pair} }}], min: \"1.3\" }}")));
    assert!(several.listeners[0].server.tls.is_some());
    for (tls, code) in [
        ("{}", "config.bad_tls"),
        ("{ certificate: a.pem }", "config.bad_tls"),
        ("{ certificates: [] }", "config.bad_tls"),
        (&format!("{{ {pair}, certificates: [{{ {pair} }}] }}"), "config.contradiction"),
        (&format!("{{ {pair}, min: \"1.1\" }}"), "config.bad_tls"),
        ("{ certificate: missing.pem, key: missing.key }", "config.bad_certificate"),
        (&format!("{{ {pair}, client_certificates: required }}"), "config.bad_tls"),
        (&format!("{{ {pair}, client_ca: ca.pem }}"), "config.contradiction"),
        (&format!("{{ {pair}, client_certificates: none, crls: [a.crl] }}"), "config.contradiction"),
        (&format!("{{ {pair}, client_certificates: optional, client_ca: missing.pem }}"), "config.bad_certificate"),
    ] {
        assert!(codes(&listener(tls)).contains(&code), "{tls}: {:?}", codes(&listener(tls)));
    }
}

#[test]
fn the_path_of_a_socket_fits_the_system() {
    let listener = |path: &str| format!("listeners: [{{ name: a, address: \"unix:{path}\" }}]");
    let longest = format!("/{}", "a".repeat(106));
    assert!(matches!(&config(&listener(&longest)).listeners[0].server.address, Address::Unix { .. }));
    assert_eq!(codes(&listener(&format!("{longest}a"))), ["config.bad_address"]);
}

#[cfg(feature = "otlp")]
#[test]
fn a_collector_is_named_with_all_that_goes_there() {
    use crate::audit::spans::Trust;
    assert!(config("").otlp.is_none(), "off until an endpoint is named");
    let usual = config("otlp: { endpoint: \"http://127.0.0.1:4318/\" }").otlp.unwrap();
    assert_eq!((&**usual.origin.text(), usual.path.as_str()), ("http://127.0.0.1:4318", ""));
    assert_eq!((usual.traces, usual.metrics, usual.trust), (true, true, Trust::TrustedProxies));
    assert_eq!((usual.share, usual.interval), (1.0, Duration::from_secs(60)));
    let text = "otlp: { endpoint: \"https://otel.test/a/b\", signals: traces, sample: 12.5%, trust: everyone, interval: \
                5s, timeout: 1s, service_name: edge, headers: { x-tenant: hush } }";
    let all = config(text).otlp.unwrap();
    assert_eq!((&**all.origin.text(), all.path.as_str()), ("https://otel.test", "/a/b"));
    assert_eq!((all.traces, all.metrics, all.share, all.trust), (true, false, 0.125, Trust::Everyone));
    assert_eq!((all.interval, all.timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!((all.service_name.as_str(), all.headers["x-tenant"].to_str().unwrap()), ("edge", "hush"));
    assert!(!format!("{all:?}").contains("hush"), "fields may be credentials");
    assert_eq!(config("otlp: { endpoint: \"http://[::1]:1\", sample: 0.5 }").otlp.unwrap().share, 0.5);
    assert_eq!(codes("otlp: { endpoint: \"http://127.0.0.1:1\", sample: 2 }"), ["config.bad_otlp"]);
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_without_otlp_says_so() {
    let loaded = read_text("otlp: { endpoint: \"http://127.0.0.1:4318\" }");
    let shown = render(&loaded.sources, &loaded.diags, false);
    assert_eq!(loaded.diags.iter().map(|one| one.code).collect::<Vec<_>>(), ["config.not_built"]);
    assert!(shown.contains("cargo feature `otlp`"), "{shown}");
}
