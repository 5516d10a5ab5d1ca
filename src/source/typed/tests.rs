//! Parameters of an invented assertion, right and wrong in every way.

use schemars::JsonSchema;
use serde::Deserialize;

use super::read;
use super::values::*;
use crate::source::{Diagnostics, Node, Sources, Span, parse, render};

/// What an assertion with many kinds of parameters looks like.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// How many requests in which time.
    rate: Rate,
    /// What is counted.
    per: Text,
    burst: Option<u32>,
    #[serde(default)]
    strict: bool,
    #[serde(default = "second")]
    wait: DurationValue,
    limit: Option<Size>,
    #[serde(default)]
    groups: OneOrMany<Name>,
    #[serde(default)]
    headers: Entries<Text>,
    mode: Option<Mode>,
    from: Option<Source>,
    key: Option<ScalarOr<Name, KeySource>>,
    #[serde(default)]
    sources: Vec<Source>,
    json: Option<Node>,
    when: Option<Expression>,
    host: Option<Literal>,
    ratio: Option<f64>,
    port: Option<Spanned<u16>>,
    name: Option<String>,
    free: Option<serde_json::Value>,
}

fn second() -> DurationValue {
    std::time::Duration::from_secs(1).into()
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Allow,
    DenyAll,
    Only(String),
    Between { low: u8, high: u8 },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Source {
    header: Name,
    scheme: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeySource {
    secret: Name,
}

const WHAT: &str = "the parameters of `limit_rate`";

fn load(text: &str) -> (Sources, Node) {
    let mut sources = Sources::new();
    let mut diags = Diagnostics::new();
    let file = sources.add("a.yaml", text);
    let node = parse(&sources, file, &mut diags).remove(0);
    assert!(diags.is_empty(), "{}", render(&sources, &diags, false));
    (sources, node)
}

fn good(text: &str) -> (Sources, Params) {
    let (sources, node) = load(text);
    let mut diags = Diagnostics::new();
    let params = read(&node, Some("rate"), WHAT, &mut diags);
    assert!(diags.is_empty(), "{}", render(&sources, &diags, false));
    (sources, params.unwrap())
}

/// `line:column code: message (help)` of each mistake.
fn mistakes<T: serde::de::DeserializeOwned + JsonSchema>(text: &str, main: Option<&str>) -> Vec<String> {
    let (sources, node) = load(text);
    let mut diags = Diagnostics::new();
    assert!(read::<T>(&node, main, WHAT, &mut diags).is_none(), "{text}");
    diags
        .iter()
        .map(|d| {
            let place = sources.place(d.span.unwrap());
            let help = d.help.as_deref().unwrap_or("");
            format!("{}:{} {}: {} ({help})", place.line, place.column, d.code, d.message)
        })
        .collect()
}

#[test]
fn reads_every_kind_of_value_as_its_place_demands() {
    let (sources, params) = good(
        "rate: 100/minute\nper: 1.10\nburst: '5'\nstrict: true\nwait: 250ms\nlimit: 64KiB\ngroups: a\n\
         headers: {x-b: no, x-a: \"2\"}\nmode: deny_all\nfrom: {header: h, scheme: Bearer}\nkey: {secret: s}\n\
         sources:\n- {header: h, scheme: no}\njson: {a: [1, no]}\nwhen: a == 'b'\nhost: true\nratio: 1.5\n\
         port: 0x1F\nname: 0123\nfree: {z: 1, a: [true, ~, 1.5, x, -3]}\n",
    );
    assert_eq!((params.rate.count, params.rate.period.as_secs()), (100, 60));
    assert_eq!(sources.slice(params.rate.span), "100/minute");
    assert_eq!(params.per.as_str(), "1.10");
    assert_eq!((params.burst, params.strict), (Some(5), true));
    assert_eq!((params.wait.duration.as_millis(), params.limit.unwrap().bytes), (250, 65_536));
    assert_eq!(params.groups.0[0].name, "a");
    let headers: Vec<_> = params.headers.iter().map(|(key, value)| (sources.slice(key.span), value.as_str())).collect();
    assert_eq!(headers, [("x-b", "no"), ("x-a", "2")]);
    assert_eq!(params.mode, Some(Mode::DenyAll));
    assert_eq!(params.from.unwrap().header.name, "h");
    assert!(matches!(params.key, Some(ScalarOr::Larger(KeySource { secret })) if secret.name == "s"));
    assert_eq!(params.sources[0].scheme, "no");
    assert_eq!(params.json.unwrap().to_json().to_string(), r#"{"a":[1,"no"]}"#);
    assert_eq!((params.when.unwrap().as_str(), params.host.unwrap().as_str()), ("a == 'b'", "true"));
    let port = params.port.unwrap();
    assert_eq!((params.ratio, port.value, sources.slice(port.span)), (Some(1.5), 31, "0x1F"));
    assert_eq!(params.name.as_deref(), Some("0123"));
    assert_eq!(params.free.unwrap().to_string(), r#"{"z":1,"a":[true,null,1.5,"x",-3]}"#);
}

#[test]
fn fills_in_defaults_and_takes_nothing_as_absent() {
    let (_, params) = good("{rate: 1/day, per: x, burst: , mode: ~, from: null, groups: [a, b], key: k}");
    assert_eq!((params.burst, params.mode, params.strict), (None, None, false));
    assert!(params.from.is_none() && params.headers.is_empty());
    assert_eq!(params.wait.span, Span::NOWHERE);
    assert_eq!(params.groups.len(), 2);
    assert!(matches!(params.key, Some(ScalarOr::Scalar(name)) if name.name == "k"));
}

#[test]
fn reads_enums_with_and_without_content() {
    for (text, mode) in [
        ("allow", Mode::Allow),
        ("{only: x}", Mode::Only("x".into())),
        ("{between: {low: 1, high: 2}}", Mode::Between { low: 1, high: 2 }),
    ] {
        let (_, params) = good(&format!("{{rate: 1/day, per: x, mode: {text}}}"));
        assert_eq!(params.mode, Some(mode));
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Simple {
    rate: Option<Rate>,
    #[serde(default)]
    names: OneOrMany<Name>,
}

#[test]
fn a_scalar_or_list_stands_for_the_main_parameter() {
    let simple = |text: &str, main: &str| {
        let (_, node) = load(text);
        read::<Simple>(&node, Some(main), WHAT, &mut Diagnostics::new()).unwrap()
    };
    assert_eq!(simple("5/day", "rate").rate.unwrap().count, 5);
    assert_eq!(simple("[a, b]", "names").names.len(), 2);
    let nothing = simple("~", "names");
    assert!(nothing.rate.is_none() && nothing.names.is_empty());
    assert_eq!(mistakes::<Simple>("5", Some("rate")).len(), 1);
    assert_eq!(
        mistakes::<Simple>("[a]", None),
        [format!("1:1 policy.wrong_type: {WHAT} must be a mapping of `rate` and `names`, found a list ()")]
    );
    assert_eq!(
        mistakes::<Params>("x", Some("rate")),
        [
            "1:1 policy.missing_parameter: `per` is missing in the parameters of `limit_rate` (`per`: What is counted.)",
            "1:1 policy.bad_value: `x` is no rate (write `N/second`, `N/minute`, `N/hour` or `N/day`, such as `100/minute`)",
        ]
    );
}

#[test]
fn reports_all_mistakes_of_a_mapping_at_once() {
    let found = mistakes::<Params>(
        "rat: 100/minute\nburst: many\nstrict: yes\nwait: 30\ngroups: [a, {b: c}, [d]]\nmode: allowed\n\
         from:\n  heade: h\n  scheme: [x]\nsources:\n- {header: h}\n- {header: {x: y}, scheme: s}\nnonsense: 1\n",
        None,
    );
    let starts = [
        "1:1 policy.unknown_key: unknown key `rat` in the parameters of `limit_rate` (did you mean `rate`?)",
        "1:1 policy.missing_parameter: `per` is missing in the parameters of `limit_rate` (`per`: What is counted.)",
        "2:8 policy.wrong_type: `burst` must be a whole number, found the text `many`",
        "3:9 policy.wrong_type: `strict` must be `true` or `false`, found the text `yes` (write `true`;",
        "4:7 policy.bad_value: `30` has no unit (write a whole number and its unit: `250ms`, `30s`",
        "5:13 policy.wrong_type: an item of `groups` must be text, found a mapping",
        "5:21 policy.wrong_type: an item of `groups` must be text, found a list",
        "6:7 policy.bad_value: `allowed` is not possible here (did you mean `allow`? possible are `allow`, `deny_all`, `only` and `between`)",
        "8:3 policy.unknown_key: unknown key `heade` in `from` (did you mean `header`?)",
        "9:11 policy.wrong_type: `scheme` must be text, found a list",
        "11:3 policy.missing_parameter: an item of `sources` lacks `scheme`",
        "12:12 policy.wrong_type: `header` must be text, found a mapping",
        "13:1 policy.unknown_key: unknown key `nonsense` in the parameters of `limit_rate` (possible are `rate`, `per`,",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn says_of_each_wrong_value_what_to_write() {
    for (text, expected) in [
        (
            "strict: 'true'",
            "1:33 policy.wrong_type: `strict` must be `true` or `false`, found the text `true` (write `true` without quotes)",
        ),
        ("strict: off", "(write `false`;"),
        ("strict: ${x}", "can hold no `${...}` but `${env.NAME}`"),
        (
            "burst: 0755",
            "policy.bad_value: `0755` begins with a zero, which may mean octal (write `755`, or `0o755` for octal)",
        ),
        ("burst: -1", "policy.bad_value: `-1` is out of range (write a whole number from 0 to 4294967295)"),
        ("burst: 1.5", "policy.wrong_type: `burst` must be a whole number, found the text `1.5`"),
        ("burst: 1_000", "policy.wrong_type"),
        ("port: 65536", "policy.bad_value: `65536` is out of range"),
        ("ratio: 00.5", "policy.bad_value: `00.5` begins with a zero"),
        ("ratio: 010", "policy.bad_value: `010` begins with a zero"),
        ("ratio: inf", "policy.wrong_type: `ratio` must be a number"),
        ("ratio: 1e999", "policy.wrong_type: `ratio` must be a number"),
        ("limit: 1024", "policy.bad_value: `1024` has no unit (write a whole number and its unit (powers of 1024)"),
        ("limit: 10MB", "policy.bad_value: `10MB` has the unknown unit `MB`"),
        ("limit: {a: b}", "policy.wrong_type: `limit` must be a size, found a mapping"),
        ("host: [a]", "policy.wrong_type: `host` must be text, found a list"),
        ("host: {id}", "found a mapping (text that begins with `{` must stand in quotes: `\"{id}\"`)"),
        (
            "when: [a]",
            "policy.wrong_type: `when` must be an expression, found a list (an expression that begins with `[`",
        ),
        ("when: ' '", "policy.bad_value: an expression cannot be empty"),
        ("groups: ['']", "policy.bad_value: a name cannot be empty"),
        ("groups: ", "policy.wrong_type: `groups` must be text, found nothing (an empty text is written `\"\"`)"),
        ("headers: [a]", "policy.wrong_type: `headers` must be a mapping, found a list"),
        ("headers: {a: {b: c}}", "1:38 policy.wrong_type: `a` must be text, found a mapping"),
        ("sources: {header: h}", "policy.wrong_type: `sources` must be a list, found a mapping"),
        ("from: x", "policy.wrong_type: `from` must be a mapping of `header` and `scheme`, found the text `x`"),
        ("from: {}", "policy.missing_parameter: `from` lacks `header`"),
        ("key: {secre: x}", "policy.unknown_key: unknown key `secre` in `key` (did you mean `secret`?)"),
        ("mode: {only: [x]}", "policy.wrong_type: `only` must be text, found a list"),
        ("mode: only", "policy.wrong_type: `mode` must be a mapping `only: ...`, found the text `only`"),
        ("mode: {allow: 1}", "policy.wrong_type: `mode` must be the bare word `allow`, found a mapping"),
        ("mode: {a: 1, b: 2}", "policy.wrong_type: `mode` must be one of `allow`, `deny_all`, `only` and `between`"),
        ("mode: {onli: x}", "policy.unknown_key: unknown key `onli` (did you mean `only`?"),
        ("mode: {between: {low: 1}}", "policy.missing_parameter: `between` lacks `high`"),
        ("mode: {between: {low: 1, high: 256}}", "policy.bad_value: `256` is out of range"),
    ] {
        let found = mistakes::<Params>(
            &format!(
                "{{rate: 1/day, per: x, \"{}\": {}}}",
                text.split_once(": ").unwrap().0,
                text.split_once(": ").unwrap().1.replace("${x}", "'${x}'")
            ),
            None,
        );
        assert!(found[0].contains(expected), "{text}: {found:#?}");
    }
}

#[test]
fn wrong_values_do_not_hide_what_is_missing() {
    let found = mistakes::<Params>("{per: [x], strict: 1}", None);
    let codes: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(codes, ["1:1 policy.missing_parameter", "1:7 policy.wrong_type", "1:20 policy.wrong_type"]);
}

#[test]
fn reads_free_mappings_and_enums_at_the_top() {
    let (sources, node) = load("b: 1\na: x\n");
    let mut diags = Diagnostics::new();
    let entries: Entries<Text> = read(&node, None, "the headers", &mut diags).unwrap();
    let keys: Vec<_> = entries.iter().map(|(key, _)| sources.place(key.span).line).collect();
    assert_eq!((keys, entries.value("a").unwrap().as_str()), (vec![1, 2], "x"));
    let nothing = Node::new(node.span(), crate::source::NodeValue::Null);
    assert!(read::<Entries<Text>>(&nothing, None, "the headers", &mut diags).unwrap().is_empty());
    assert_eq!(mistakes::<Entries<Text>>("{a: [], b: {}}", None).len(), 2);
    assert_eq!(mistakes::<Vec<Source>>("[{header: h}, x]", None).len(), 2);
}

#[test]
fn the_number_of_mistakes_is_bounded_and_none_is_lost_without_a_word() {
    let many: String = (0..500).map(|_| "- {header: [], scheme: s}\n").collect();
    assert_eq!(mistakes::<Vec<Source>>(&many, None).len(), super::READS_MAX);
}

#[test]
fn values_come_from_policy_files_only() {
    assert!(serde_json::from_str::<Text>("\"x\"").is_err());
    assert!(serde_json::from_str::<Spanned<u8>>("1").is_err());
}

#[test]
fn renders_a_mistake_with_its_line() {
    let (sources, node) = load("rate: 1/day\nper: x\nbrust: 5\n");
    let mut diags = Diagnostics::new();
    assert!(read::<Params>(&node, None, WHAT, &mut diags).is_none());
    let shown = render(&sources, &diags, false);
    let expected = "\
error[policy.unknown_key]: unknown key `brust` in the parameters of `limit_rate`
 --> a.yaml:3:1
  |
3 | brust: 5
  | ^^^^^
  |
  = help: did you mean `burst`?

1 error
";
    assert_eq!(shown, expected);
}

#[test]
fn schemas_serve_editors() {
    let schema = schemars::schema_for!(Params).to_value();
    let property = |name: &str| &schema["properties"][name];
    assert_eq!(schema["required"], serde_json::json!(["rate", "per"]));
    assert_eq!(property("rate")["description"], "How many requests in which time.");
    assert_eq!(property("wait")["default"], "1s");
    for (name, good, bad) in [("rate", "5/day", "0/day"), ("wait", "30s", "30"), ("wait", "${env.T}", "${x}")] {
        let pattern = regex::Regex::new(property(name)["pattern"].as_str().unwrap()).unwrap();
        assert!(pattern.is_match(good) && !pattern.is_match(bad), "{name}");
    }
}
