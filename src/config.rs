//! gateway.yaml to a typed [`Config`]: the process, its listeners, limits and folders.
//!
//! All mistakes are reported at once, at their places, in the form that policies use. What the contract
//! names and this version does not serve is refused as `config.not_supported`; nothing that is written
//! down is silently ignored. It opens no socket and starts nothing.

mod address;
mod document;
mod limits;
mod otlp;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::audit::sink::To;
use crate::broker::sessions::Sessions;
use crate::engine::scrubbing::RecordRules;
use crate::engine::value::Text;
use crate::identity::key_sets::KeySets;
use crate::identity::own_keys::OwnKeys;
use crate::identity::throttle::Guessing;
use crate::limits::Limits;
use crate::policy::build::Environment;
use crate::policy::files::Folder;
use crate::policy::resources::Values;
use crate::regular_file;
use crate::server::{Address, ListenerConfig};
use crate::source::{Diagnostic, Diagnostics, FILE_BYTES_MAX, Node, Sources, parse, past_mistakes, read_remains};

use document::GatewayDoc;
pub use otlp::Otlp;

/// The file that `run` and `check` look for where none is named.
pub const FILE_NAME: &str = "gateway.yaml";
/// Version of the policy language that this program speaks.
pub const LANGUAGE_VERSION: u64 = 1;
/// Workers that can be asked for.
pub const WORKERS_MAX: usize = 256;

/// Everything the process is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from; `None` for the defaults.
    pub file: Option<PathBuf>,
    /// Where relative paths start.
    pub base: PathBuf,
    pub listeners: Vec<Listener>,
    pub admin: SocketAddr,
    pub policies: PathBuf,
    pub assertions: PathBuf,
    pub state: PathBuf,
    pub workers: usize,
    pub drain: Duration,
    pub reload: Reload,
    pub tests: Tests,
    /// Names that policies may read as `env.NAME`.
    pub env: Vec<Text>,
    pub audit: To,
    pub guessing: Guessing,
    pub log: Log,
    /// What is taken out of every record.
    pub scrub: Option<RecordRules>,
    pub limits: Limits,
    /// Where traces and numbers are sent.
    pub otlp: Option<Otlp>,
    /// Keys that are fetched, for as long as the process lives.
    pub key_sets: Arc<KeySets>,
    /// Stored tokens.
    pub sessions: Arc<Sessions>,
    /// Keys that were made here, for as long as the process lives.
    pub own_keys: Arc<OwnKeys>,
}

/// A listener and what gateway.yaml says about its use.
#[derive(Clone, Debug)]
pub struct Listener {
    pub server: ListenerConfig,
    /// Bearer-style credentials may come in here without TLS.
    pub allow_plaintext_credentials: bool,
    /// Its TLS is written and does not load: that is told once, and policies are not judged by it.
    pub is_doubtful: bool,
}

impl Listener {
    /// Whether a credential would cross a network in clear text, and nobody has said that it may.
    fn is_clear(&self) -> bool {
        let is_near = match &self.server.address {
            Address::Tcp(address) => address.ip().is_loopback(),
            Address::Unix { .. } => true,
            // Where it stands is known to whoever passes it, and not before the start.
            Address::Passed(_) => false,
        };
        let has_tls = self.server.tls.is_some() || self.is_doubtful;
        !is_near && !self.server.behind_tls_proxy && !has_tls && !self.allow_plaintext_credentials
    }
}

/// How changed files are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Quiet time before a change is read.
    pub settle: Duration,
    /// How often the folders are listed beside the file system's own events; `None` never.
    pub poll: Option<Duration>,
}

/// What the policies' own tests do before a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tests {
    pub on_reload: bool,
    /// Time for all of them.
    pub budget: Duration,
}

/// The process's own log, on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: tracing::Level,
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// Polling under `poll: auto`: one listing each time, for file systems that report no changes.
/// Bytes of gateway.yaml that are read: one more than it may have, so that this shows.
const BYTES_READ: u64 = FILE_BYTES_MAX as u64 + 1;
const POLL_AUTO: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(30);
const TESTS_BUDGET: Duration = Duration::from_secs(10);
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9901);
const MAIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

impl Default for Config {
    /// What holds without a gateway.yaml, in the working folder.
    fn default() -> Self {
        Config {
            file: None,
            base: PathBuf::new(),
            listeners: vec![Listener {
                server: ListenerConfig {
                    name: "main".into(),
                    address: Address::Tcp(MAIN),
                    trusted_proxies: Arc::new([]),
                    announcing_proxies: Arc::new([]),
                    behind_tls_proxy: false,
                    tls: None,
                },
                allow_plaintext_credentials: false,
                is_doubtful: false,
            }],
            admin: ADMIN,
            policies: "policies".into(),
            assertions: "assertions".into(),
            state: "state".into(),
            workers: cores(),
            drain: DRAIN,
            reload: Reload { settle: SETTLE, poll: Some(POLL_AUTO) },
            tests: Tests { on_reload: true, budget: TESTS_BUDGET },
            env: Vec::new(),
            audit: To::Stdout,
            guessing: Guessing::default(),
            log: Log { level: tracing::Level::INFO, format: LogFormat::Auto },
            scrub: None,
            limits: Limits::default(),
            otlp: None,
            key_sets: Arc::default(),
            sessions: Arc::default(),
            own_keys: Arc::default(),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// A configuration, or why there is none. The sources are those that the diagnostics point into.
pub struct Loaded {
    pub config: Option<Config>,
    /// With mistakes: what could be read all the same, so that policies can be checked beside them.
    pub remains: Option<Config>,
    pub sources: Sources,
    pub diags: Diagnostics,
}

/// Reads a configuration: the named file, else `./gateway.yaml` if it is there, else the defaults.
pub fn load(named: Option<&Path>) -> Loaded {
    let path = named.unwrap_or(Path::new(FILE_NAME));
    let bytes = match regular_file::read_start(path, BYTES_READ) {
        Ok(bytes) => bytes,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Loaded {
                config: Some(Config::default()),
                remains: None,
                sources: Sources::new(),
                diags: Diagnostics::new(),
            };
        }
        Err(error) => {
            let mut diags = Diagnostics::new();
            let message = format!("{}: cannot be read: {error}", path.display());
            let help = "name a file that is there and readable: `--config FILE`";
            diags.push(Diagnostic::error("config.unreadable", None, message).with_help(help));
            return Loaded { config: None, remains: None, sources: Sources::new(), diags };
        }
    };
    from_bytes(path, &bytes)
}

/// The schema of gateway.yaml, for editors.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(document::GatewayDoc)
}

/// Reads a configuration from the contents of its file.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Loaded {
    let (mut sources, mut diags) = (Sources::new(), Diagnostics::new());
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let defaults = Config { file: Some(path.to_path_buf()), base, ..Config::default() }.rooted();
    let config = sources.add_bytes(path.to_string_lossy().as_ref(), bytes, &mut diags).and_then(|file| {
        let nodes = parse(&sources, file, &mut diags);
        match nodes.as_slice() {
            [] => Some(defaults.clone()),
            [node] => past_mistakes(node, &mut diags, |_| false, |node, diags| read_gateway(node, &defaults, diags)),
            [_, second, ..] => {
                let message = "gateway.yaml is one document, a second one begins here";
                let help = "policies stand in files of their own, below the folder `policies`";
                diags.push(Diagnostic::error("config.one_document", second.span(), message).with_help(help));
                None
            }
        }
    });
    match diags.has_errors() {
        false => Loaded { config, remains: None, sources, diags },
        true => Loaded { config: None, remains: config.or(Some(defaults)), sources, diags },
    }
}

fn read_gateway(node: &Node, defaults: &Config, diags: &mut Diagnostics) -> Option<Config> {
    let doc = read_remains::<GatewayDoc>(node, None, "gateway.yaml", diags);
    let is_mangled = diags.has_errors();
    let config = doc.and_then(|doc| doc.into_config(defaults.clone(), diags));
    if is_mangled {
        diags.retain(|one| one.span.is_some()); // the others are about what stands in for something
    }
    config
}

impl Config {
    /// Lets the folders start where the file stands.
    fn rooted(mut self) -> Config {
        for path in [&mut self.policies, &mut self.assertions, &mut self.state] {
            *path = self.base.join(&*path);
        }
        self
    }

    /// The folders whose files make a set of policies.
    pub fn folders(&self) -> [Folder; 2] {
        [
            Folder { path: self.policies.clone(), optional: false },
            Folder { path: self.assertions.clone(), optional: true },
        ]
    }

    /// What policies are compiled with: reads the process's environment.
    pub fn environment(&self) -> Environment {
        let process_env: std::collections::BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let env = self.env.iter().filter_map(|name| Some((name.clone(), process_env.get(&**name)?.as_str().into())));
        self.key_sets.keep_in(self.state.join("keys"));
        self.sessions.keep_in(self.state.join("sessions"));
        let values = Values {
            key_sets: self.key_sets.clone(),
            sessions: self.sessions.clone(),
            own_keys: self.own_keys.clone(),
            env_listed: self.env.clone(),
            env: env.collect(),
            process_env: process_env.clone(),
            base: self.base.clone(),
            ..Values::default()
        };
        let listeners = self.listeners.iter().map(|listener| listener.server.name.clone()).collect();
        let clear = self.listeners.iter().filter(|listener| listener.is_clear());
        let clear_listeners = clear.map(|listener| listener.server.name.clone()).collect();
        let unasking = self.listeners.iter().filter(|listener| !listener.is_doubtful).map(|listener| &listener.server);
        let unasking = unasking.filter(|server| !server.tls.as_ref().is_some_and(|tls| tls.asks_clients()));
        let unasking_listeners = unasking.map(|server| server.name.clone()).collect();
        let (limits, scrub) = (self.limits.clone(), self.scrub.clone());
        Environment { limits, listeners, clear_listeners, unasking_listeners, scrub, values }
    }

    /// Lets keys that are made here be kept for the next start. For whoever serves: who only looks leaves none behind.
    pub fn keep_own_keys(&self) {
        self.own_keys.keep_in(self.state.join("signing"));
    }

    /// Hash of the file's contents now, to see whether a restart would change anything. `None` without one.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let bytes = regular_file::read_start(self.file.as_deref()?, BYTES_READ).ok()?;
        Some(Sha256::digest(bytes).into())
    }
}

#[cfg(test)]
mod tests;
