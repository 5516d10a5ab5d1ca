//! The keys of gateway.yaml, and what they become.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::address::{admin_address, listening_address, network};
use super::limits::LimitsDoc;
use super::otlp::OtlpDoc;
use super::tls::TlsDoc;
use super::{Config, LANGUAGE_VERSION, Listener, Log, LogFormat, WORKERS_MAX};
use crate::assertions::HouseRules;
use crate::audit::sink::To;
use crate::engine::value::Text;
use crate::identity::throttle::Guessing;
use crate::server::{Address, ListenerConfig};
use crate::source::{
    Diagnostic, Diagnostics, DurationValue, Literal, Name, Node, OneOrMany, Size, Span, Spanned, units,
};

/// Records of a file larger than this go on in a new one, where gateway.yaml does not say.
const ROTATE: u64 = 100 * 1024 * 1024;

/// gateway.yaml.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewayDoc {
    /// Version of the policy language: 1.
    #[serde(default)]
    version: Option<Spanned<u64>>,
    /// Where clients come in.
    #[serde(default)]
    listeners: Option<Vec<ListenerDoc>>,
    /// The admin interface.
    #[serde(default)]
    admin: Option<AdminDoc>,
    /// Folder of the policies.
    #[serde(default)]
    policies: Option<Literal>,
    /// Folder of the assertions that operators define; it may be missing.
    #[serde(default)]
    assertions: Option<Literal>,
    /// Folder for what the gateway keeps.
    #[serde(default)]
    state: Option<Literal>,
    /// Threads that serve: a number, or `auto` for one per core.
    #[serde(default)]
    workers: Option<Literal>,
    /// Time for requests to end after SIGTERM.
    #[serde(default)]
    drain: Option<DurationValue>,
    /// How changed files are noticed.
    #[serde(default)]
    reload: Option<ReloadDoc>,
    /// The policies' own tests before a reload.
    #[serde(default)]
    tests: Option<TestsDoc>,
    /// Names of environment variables that policies may read.
    #[serde(default)]
    env: Option<OneOrMany<Name>>,
    /// Where records go.
    #[serde(default)]
    audit: Option<AuditDoc>,
    /// Pauses after failed guesses at credentials.
    #[serde(default)]
    guessing: Option<GuessingDoc>,
    /// The process's own log, on standard error.
    #[serde(default)]
    log: Option<LogDoc>,
    /// Bounds on what clients and upstreams may make the gateway hold.
    #[serde(default)]
    limits: Option<LimitsDoc>,
    /// Traces and numbers for an OpenTelemetry collector.
    #[serde(default)]
    otlp: Option<Spanned<OtlpDoc>>,
    /// `memory`.
    #[serde(default)]
    counters: Option<Literal>,
    /// Comes with a later version.
    #[serde(default)]
    store: Option<Node>,
    /// Comes with a later version.
    #[serde(default)]
    vault: Option<Node>,
    /// What is taken out of every record of every service: rules as in the step `scrub`.
    #[serde(default)]
    scrub: Option<Spanned<HouseRules>>,
}

/// A listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListenerDoc {
    /// Name of the listener, for `listeners:` of services and for records.
    name: Name,
    /// Address and port, `unix:PATH`, or `systemd:NAME` for sockets that systemd passes under that name.
    address: Literal,
    /// Mode of a Unix socket's file, in octal digits.
    #[serde(default)]
    mode: Option<Literal>,
    /// Networks of proxies whose word about the client counts.
    #[serde(default)]
    trusted_proxies: Option<OneOrMany<Literal>>,
    /// Networks of proxies that begin each connection with a PROXY header (version 2).
    #[serde(default)]
    proxy_protocol: Option<OneOrMany<Literal>>,
    /// Something in front of it ends TLS.
    #[serde(default)]
    behind_tls_proxy: bool,
    /// Credentials may come in without TLS.
    #[serde(default)]
    allow_plaintext_credentials: bool,
    /// Clients come in over TLS.
    #[serde(default)]
    tls: Option<Spanned<TlsDoc>>,
}

/// The admin interface.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AdminDoc {
    /// A loopback address and port.
    address: Literal,
    /// Comes with a later version.
    #[serde(default)]
    tls: Option<Node>,
    /// Comes with a later version.
    #[serde(default)]
    token: Option<Node>,
}

/// How changed files are noticed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReloadDoc {
    /// Quiet time before a change is read.
    #[serde(default)]
    settle: Option<DurationValue>,
    /// `auto`, a duration, or `off`.
    #[serde(default)]
    poll: Option<Literal>,
}

/// The policies' own tests before a reload.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TestsDoc {
    /// `run` or `skip`.
    #[serde(default)]
    on_reload: Option<OnReload>,
    /// Time for all of them.
    #[serde(default)]
    budget: Option<DurationValue>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnReload {
    Run,
    Skip,
}

/// Where records go: `{ to: stdout }` or `{ file: NAME, rotate: 100MiB }`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditDoc {
    /// `stdout`.
    #[serde(default)]
    #[schemars(with = "Option<AuditTo>")]
    to: Option<Node>,
    /// A file that lines are appended to.
    #[serde(default)]
    file: Option<Literal>,
    /// Size at which the file is renamed and a new one begun.
    #[serde(default)]
    rotate: Option<Size>,
    /// Comes with a later version.
    #[serde(default)]
    store: Option<Node>,
}

#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum AuditTo {
    Stdout,
}

impl AuditTo {
    fn word(self) -> &'static str {
        match self {
            AuditTo::Stdout => "stdout",
        }
    }
}

/// Pauses after failed guesses.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GuessingDoc {
    /// So many failures start a pause.
    #[serde(default)]
    failures: Option<u32>,
    /// The span in which they fall.
    #[serde(default)]
    within: Option<DurationValue>,
    /// The first pause.
    #[serde(default)]
    pause: Option<DurationValue>,
    /// The longest pause.
    #[serde(default)]
    pause_max: Option<DurationValue>,
}

/// The process's own log.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogDoc {
    /// The least important lines that are written.
    #[serde(default)]
    level: Option<LogLevel>,
    /// `text`, `json`, or `auto`: text on a terminal, JSON otherwise.
    #[serde(default)]
    format: Option<LogFormatDoc>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LogFormatDoc {
    Auto,
    Text,
    Json,
}

/// Refuses a key of the contract that this version does not serve.
pub(super) fn not_supported(key: &str, span: Span, diags: &mut Diagnostics) {
    let message = format!("`{key}` comes with a later version");
    let help = "take it out for now: nothing would follow from it";
    diags.push(Diagnostic::error("config.not_supported", span, message).with_help(help));
}

fn refuse(code: &'static str, span: Span, message: String, help: &str, diags: &mut Diagnostics) {
    diags.push(Diagnostic::error(code, span, message).with_help(help));
}

impl GatewayDoc {
    /// The configuration; what is wrong was reported and stands as its default.
    pub(super) fn into_config(self, defaults: Config, diags: &mut Diagnostics) -> Option<Config> {
        self.refuse_what_is_not_served(diags);
        let base = defaults.base.clone();
        let folder = |given: &Option<Literal>, default: &Path| match given {
            Some(text) => base.join(text.as_str()),
            None => default.to_path_buf(),
        };
        let (policies, assertions, state) = (
            folder(&self.policies, &defaults.policies),
            folder(&self.assertions, &defaults.assertions),
            folder(&self.state, &defaults.state),
        );
        Some(Config {
            listeners: self.listeners.map_or(defaults.listeners, |list| listeners(list, &base, diags)),
            admin: self.admin.and_then(|admin| admin.address(diags)).unwrap_or(defaults.admin),
            policies,
            assertions,
            state,
            workers: self.workers.and_then(|text| workers(&text, diags)).unwrap_or(defaults.workers),
            drain: self.drain.map_or(defaults.drain, |drain| drain.duration),
            reload: self.reload.map_or(defaults.reload, |reload| reload.over(defaults.reload, diags)),
            tests: self.tests.map_or(defaults.tests, |tests| super::Tests {
                on_reload: !matches!(tests.on_reload, Some(OnReload::Skip)),
                budget: tests.budget.map_or(defaults.tests.budget, |budget| budget.duration),
            }),
            env: self.env.map_or(defaults.env, |names| env(names, diags)),
            audit: self.audit.map_or(defaults.audit, |audit| audit.to(&base, diags)),
            guessing: self.guessing.map_or(defaults.guessing, |guessing| guessing.over(defaults.guessing, diags)),
            log: self.log.map_or(defaults.log, |log| log.over(defaults.log)),
            scrub: self.scrub.and_then(|scrub| scrub.value.compile(scrub.span, diags)),
            limits: self.limits.unwrap_or_default().over(defaults.limits, diags),
            otlp: self.otlp.and_then(|otlp| OtlpDoc::into_config(otlp, &base, diags)),
            key_sets: defaults.key_sets,
            sessions: defaults.sessions,
            own_keys: defaults.own_keys,
            file: defaults.file,
            base: defaults.base,
        })
    }

    fn refuse_what_is_not_served(&self, diags: &mut Diagnostics) {
        if let Some(version) = self.version.filter(|version| version.value != LANGUAGE_VERSION) {
            let message = format!("version {} of the policy language is not known", version.value);
            refuse("config.bad_version", version.span, message, "this program speaks `version: 1`", diags);
        }
        if let Some(counters) = self.counters.as_ref().filter(|counters| counters.as_str() != "memory") {
            not_supported(&format!("counters: {}", counters.as_str()), counters.span(), diags);
        }
        for (key, node) in [("store", &self.store), ("vault", &self.vault)] {
            if let Some(node) = node {
                not_supported(key, node.span(), diags);
            }
        }
    }
}

fn listeners(list: Vec<ListenerDoc>, base: &Path, diags: &mut Diagnostics) -> Vec<Listener> {
    let mut listeners: Vec<(Listener, Span, Span)> = Vec::new();
    for doc in list {
        let has_tls = doc.tls.is_some();
        let tls = doc.tls.and_then(|tls| TlsDoc::listening(tls, base, diags));
        let is_doubtful = has_tls && tls.is_none();
        let trusted = doc.trusted_proxies.iter().flat_map(OneOrMany::iter);
        let trusted: Vec<_> = trusted.filter_map(|text| network(text, diags)).collect();
        let announcing = doc.proxy_protocol.iter().flat_map(OneOrMany::iter);
        let announcing: Vec<_> = announcing.filter_map(|text| network(text, diags)).collect();
        let Some(address) = listening_address(&doc.address, doc.mode.as_ref(), base, diags) else { continue };
        for (other, name_span, address_span) in &listeners {
            if *other.server.name == *doc.name.name {
                let message = format!("there is already a listener called `{}`", doc.name.name);
                let twice = Diagnostic::error("config.duplicate_name", doc.name.span, message);
                diags.push(twice.with_note(*name_span, "the first one stands here").with_help("rename one of them"));
            }
            if takes_the_place_of(&other.server.address, &address) {
                let message = format!("another listener takes `{address}` already");
                let twice = Diagnostic::error("config.duplicate_address", doc.address.span(), message);
                let help = "give each listener an address of its own";
                diags.push(twice.with_note(*address_span, "the first one stands here").with_help(help));
            }
        }
        let server = ListenerConfig {
            name: doc.name.name.as_str().into(),
            address,
            trusted_proxies: trusted.into(),
            announcing_proxies: announcing.into(),
            behind_tls_proxy: doc.behind_tls_proxy,
            tls,
        };
        let listener = Listener { server, allow_plaintext_credentials: doc.allow_plaintext_credentials, is_doubtful };
        listeners.push((listener, doc.name.span, doc.address.span()));
    }
    if listeners.is_empty() && !diags.has_errors() {
        let help = "write `listeners: [{ name: main, address: 127.0.0.1:8080 }]`, or leave the key out";
        diags.push(Diagnostic::error("config.no_listener", None, "a gateway needs a listener").with_help(help));
    }
    listeners.into_iter().map(|(listener, ..)| listener).collect()
}

/// Whether one listener could not stand where the other does.
fn takes_the_place_of(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => one == other && one.port() != 0,
        (Address::Unix { path: one, .. }, Address::Unix { path: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

impl AdminDoc {
    fn address(&self, diags: &mut Diagnostics) -> Option<std::net::SocketAddr> {
        for (key, node) in [("admin: tls", &self.tls), ("admin: token", &self.token)] {
            if let Some(node) = node {
                not_supported(key, node.span(), diags);
            }
        }
        admin_address(&self.address, diags)
    }
}

fn workers(text: &Literal, diags: &mut Diagnostics) -> Option<usize> {
    if text.as_str() == "auto" {
        return None;
    }
    let number = text.as_str().parse().ok().filter(|number| (1..=WORKERS_MAX).contains(number));
    if number.is_none() {
        let message = format!("`{}` is no number of workers", text.as_str());
        let help = format!("write `auto` for one per core, or a number from 1 to {WORKERS_MAX}");
        refuse("config.bad_workers", text.span(), message, &help, diags);
    }
    number
}

impl ReloadDoc {
    fn over(self, defaults: super::Reload, diags: &mut Diagnostics) -> super::Reload {
        let poll = match self.poll.as_ref().map(|poll| (poll, poll.as_str())) {
            None | Some((_, "auto")) => defaults.poll,
            Some((_, "off")) => None,
            Some((text, word)) => match units::parse_duration(word) {
                Ok(every) if !every.is_zero() => Some(every),
                _ => {
                    let message = format!("`{word}` says nothing about polling");
                    let help = "write `auto`, `off`, or a duration such as `5s`";
                    refuse("config.bad_poll", text.span(), message, help, diags);
                    defaults.poll
                }
            },
        };
        super::Reload { settle: self.settle.map_or(defaults.settle, |settle| settle.duration), poll }
    }
}

fn env(names: OneOrMany<Name>, diags: &mut Diagnostics) -> Vec<Text> {
    let mut seen = BTreeSet::new();
    for name in names.iter() {
        let legal = |character: char| character.is_ascii_alphanumeric() || character == '_';
        if !name.name.chars().all(legal) || name.name.starts_with(|first: char| first.is_ascii_digit()) {
            let message = format!("`{}` is no name of an environment variable", name.name);
            refuse("config.bad_name", name.span, message, "letters, digits and `_`, not first a digit", diags);
        }
        if !seen.insert(name.name.as_str()) {
            let message = format!("`{}` is listed twice", name.name);
            refuse("config.duplicate_name", name.span, message, "remove one of them", diags);
        }
    }
    names.iter().map(|name| name.name.as_str().into()).collect()
}

impl AuditDoc {
    fn to(self, base: &Path, diags: &mut Diagnostics) -> To {
        if let Some(store) = &self.store {
            not_supported("audit: store", store.span(), diags);
        }
        let to = self.to.as_ref().filter(|to| !to.is_null());
        if let Some(to) = to.filter(|to| to.as_text() != Some(AuditTo::Stdout.word())) {
            let message = "`to` can only be `stdout`".to_owned();
            let help = "write `to: stdout`; records go to a file with `audit: { file: NAME }`, without `to`";
            refuse("policy.bad_value", to.span(), message, help, diags);
            return To::Stdout;
        }
        match (self.file, to.map(Node::span)) {
            (Some(file), Some(to)) => {
                let message = "records go to one place: `to` or `file`".to_owned();
                let second = if to > file.span() { to } else { file.span() };
                refuse("config.contradiction", second, message, "remove one of them", diags);
                To::Stdout
            }
            (Some(file), None) => {
                let rotate = self.rotate.map_or(ROTATE, |size| size.bytes);
                if let Some(size) = self.rotate.filter(|size| size.bytes == 0) {
                    let message = "a file cannot be renamed at every byte".to_owned();
                    refuse("config.zero", size.span, message, "write a size such as `100MiB`", diags);
                }
                To::File { path: base.join(file.as_str()), rotate }
            }
            (None, _) => {
                if let Some(size) = self.rotate {
                    let message = "`rotate` needs a `file`".to_owned();
                    refuse("config.contradiction", size.span, message, "add `file: NAME`, or remove it", diags);
                }
                To::Stdout
            }
        }
    }
}

impl GuessingDoc {
    fn over(self, defaults: Guessing, diags: &mut Diagnostics) -> Guessing {
        let ms = |given: Option<DurationValue>, default: u64| {
            given.map_or(default, |given| u64::try_from(given.duration.as_millis()).unwrap_or(u64::MAX))
        };
        let guessing = Guessing {
            failures: self.failures.unwrap_or(defaults.failures),
            within_ms: ms(self.within, defaults.within_ms),
            pause_ms: ms(self.pause, defaults.pause_ms),
            pause_max_ms: ms(self.pause_max, defaults.pause_max_ms),
        };
        let span = [self.within, self.pause, self.pause_max].into_iter().flatten().map(|given| given.span).next();
        guessing.check().unwrap_or_else(|why| {
            diags.push(Diagnostic::error("config.bad_guessing", span, format!("guessing: {why}")));
            defaults
        })
    }
}

impl LogDoc {
    fn over(self, defaults: Log) -> Log {
        let level = match self.level {
            None => defaults.level,
            Some(LogLevel::Error) => tracing::Level::ERROR,
            Some(LogLevel::Warn) => tracing::Level::WARN,
            Some(LogLevel::Info) => tracing::Level::INFO,
            Some(LogLevel::Debug) => tracing::Level::DEBUG,
            Some(LogLevel::Trace) => tracing::Level::TRACE,
        };
        let format = match self.format {
            None | Some(LogFormatDoc::Auto) => LogFormat::Auto,
            Some(LogFormatDoc::Text) => LogFormat::Text,
            Some(LogFormatDoc::Json) => LogFormat::Json,
        };
        Log { level, format }
    }
}
