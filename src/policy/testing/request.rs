//! `request:` of a test: the head and body of what the client sends.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::build::Environment;
use crate::policy::testing::client::{ClientDoc, TestClient};
use crate::policy::testing::given::World;
use crate::policy::testing::later;
use crate::policy::testing::stand_in::fields;
use crate::policy::testing::text::{Bench, Names, TestText, Tree};
use crate::regular_file;
use crate::source::{Diagnostic, Diagnostics, Entries, Literal, Node, OneOrMany, Size, Span, Text, read};

/// Largest generated body or file, in bytes: well above every limit that a test could want to pass.
const GENERATED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The field in which `api_key` sends its key.
const API_KEY_FIELD: HeaderName = HeaderName::from_static("x-api-key");
/// Keys of the contract that this version does not know yet.
const LATER: [&str; 2] = ["kerberos", "login"];

/// A request of a test.
#[derive(Debug)]
pub(super) struct TestRequest {
    method: Option<TestText>,
    path: Option<TestText>,
    host: Option<TestText>,
    headers: Vec<(HeaderName, TestText)>,
    basic: Option<(String, TestText)>,
    api_key: Option<String>,
    body: RequestBody,
    pub client: TestClient,
    pub span: Span,
}

#[derive(Debug)]
enum RequestBody {
    Empty,
    Json(Tree),
    Text(TestText),
    Form(Vec<(String, TestText)>),
    Base64(TestText),
    File(PathBuf),
    Size(u64),
}

/// What a service's match rule gives to a request that does not say it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usual {
    pub method: String,
    pub path: Option<String>,
    pub host: String,
    /// What the names of files start from.
    pub base: PathBuf,
    /// The listener that requests come in at.
    pub listener: crate::engine::value::Text,
}

impl Usual {
    /// Where every request fits.
    pub fn of_anything(environment: &Environment) -> Usual {
        let listener = environment.listeners.first().cloned().unwrap_or_else(|| "main".into());
        let (method, host) = ("GET".to_owned(), "localhost".to_owned());
        Usual { method, path: Some("/".to_owned()), host, base: environment.values.base.clone(), listener }
    }
}

/// A request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestDoc {
    /// The first of the service's methods without it.
    #[serde(default)]
    method: Option<Text>,
    /// Path and query; the match path without it, where that has no parameter.
    #[serde(default)]
    path: Option<Text>,
    #[serde(default)]
    host: Option<Text>,
    #[serde(default)]
    headers: Entries<OneOrMany<Text>>,
    /// Name and password of HTTP Basic.
    #[serde(default)]
    basic: Option<Entries<Text>>,
    /// Id of a key in `given: api_keys`.
    #[serde(default)]
    api_key: Option<Literal>,
    #[serde(default)]
    json: Option<Node>,
    #[serde(default)]
    text: Option<Text>,
    #[serde(default)]
    form: Option<Entries<OneOrMany<Text>>>,
    #[serde(default)]
    body_base64: Option<Text>,
    /// A file with the body, relative to gateway.yaml.
    #[serde(default)]
    body_file: Option<Literal>,
    /// A generated body of this size.
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    client: ClientDoc,
}

impl TestRequest {
    /// Reads a request; everything wrong with it is reported.
    pub fn read(
        node: &Node,
        world: &World,
        needs_path: bool,
        names: &mut Names,
        diags: &mut Diagnostics,
    ) -> Option<TestRequest> {
        let node = &later(node, "request", &LATER, diags);
        let mut doc: RequestDoc = read(node, None, "a request", diags)?;
        doc.json = doc.json.or_else(|| node.get("json").cloned()); // a body that is `null`
        let span = node.span();
        if doc.path.is_none() && needs_path {
            let message = "the service's match path has a parameter, so that a request must say its path";
            diags.push(Diagnostic::error("test.no_path", span, message).with_help("write `path: /...`"));
            return None;
        }
        let body = body(&doc, span, names, diags);
        let mut text = |text: &Option<Text>| match text {
            None => Some(None),
            Some(text) => TestText::compile(&text.0, names, diags).map(Some),
        };
        let (method, path, host) = (text(&doc.method), text(&doc.path), text(&doc.host));
        let headers = fields(&doc.headers, names, diags);
        let basic = match doc.basic {
            None => None,
            Some(pairs) => Some(self::basic(&pairs, span, names, diags)?),
        };
        let api_key = match &doc.api_key {
            None => None,
            Some(id) => Some(api_key(id, world, diags)?),
        };
        let client = doc.client.client(diags)?;
        Some(TestRequest {
            method: method?,
            path: path?,
            host: host?,
            headers: headers?,
            basic,
            api_key,
            body: body?,
            client,
            span,
        })
    }

    /// The request as it arrives; the error says what cannot be sent.
    pub fn make(&self, usual: &Usual, bench: &Bench<'_>) -> Result<(http::request::Parts, Bytes), String> {
        let text = |text: &Option<TestText>, usual: &str| match text {
            Some(text) => text.text(bench),
            None => Ok(usual.to_owned()),
        };
        let (method, path) = (text(&self.method, &usual.method)?, self.path(usual, bench)?);
        let host = text(&self.host, &usual.host)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method"))?;
        let uri: Uri = path.parse().map_err(|error| format!("`{path}` cannot be sent as a target: {error}"))?;
        let host = HeaderValue::try_from(&host).map_err(|_| format!("`{host}` is no host"))?;
        let (media, body) = self.body(usual, bench)?;
        let mut request = http::Request::new(());
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        if let Some(media) = media {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        }
        if !body.is_empty() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if let Some((name, password)) = &self.basic {
            let pair = format!("{name}:{}", password.text(bench)?);
            let value = format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()));
            headers.insert(header::AUTHORIZATION, field(&header::AUTHORIZATION, &value)?);
        }
        if let Some(key) = &self.api_key {
            headers.insert(API_KEY_FIELD, field(&API_KEY_FIELD, key)?);
        }
        // What the test writes out stands for what was derived; several fields of one name all stand.
        for (name, _) in &self.headers {
            headers.remove(name);
        }
        for (name, text) in &self.headers {
            headers.append(name, field(name, &text.text(bench)?)?);
        }
        let (mut parts, ()) = request.into_parts();
        (parts.method, parts.uri) = (method, uri);
        Ok((parts, body))
    }

    fn path(&self, usual: &Usual, bench: &Bench<'_>) -> Result<String, String> {
        match (&self.path, &usual.path) {
            (Some(path), _) => path.text(bench),
            (None, Some(path)) => Ok(path.clone()),
            (None, None) => Err("the request has no path".into()), // not reached: read() refuses it
        }
    }

    fn body(&self, usual: &Usual, bench: &Bench<'_>) -> Result<(Option<&'static str>, Bytes), String> {
        Ok(match &self.body {
            RequestBody::Empty => (None, Bytes::new()),
            RequestBody::Json(tree) => (Some("application/json"), tree.json(bench)?.to_string().into()),
            RequestBody::Text(text) => (Some("text/plain; charset=utf-8"), text.text(bench)?.into()),
            RequestBody::Form(pairs) => {
                let mut form = String::new();
                for (name, text) in pairs {
                    if !form.is_empty() {
                        form.push('&');
                    }
                    crate::expr::escape(crate::expr::Place::FormValue, name, &mut form);
                    form.push('=');
                    crate::expr::escape(crate::expr::Place::FormValue, &text.text(bench)?, &mut form);
                }
                (Some("application/x-www-form-urlencoded"), form.into())
            }
            RequestBody::Base64(text) => {
                let text = text.text(bench)?;
                let bytes = data_encoding::BASE64.decode(text.as_bytes());
                (None, bytes.map_err(|error| format!("`body_base64` is no base64: {error}"))?.into())
            }
            RequestBody::File(name) => (None, file(&usual.base, name)?),
            RequestBody::Size(bytes) => {
                (Some("application/octet-stream"), vec![b'x'; usize::try_from(*bytes).unwrap_or(usize::MAX)].into())
            }
        })
    }
}

/// The bytes of a file below a folder; a link must not lead out of it.
fn file(base: &Path, name: &Path) -> Result<Bytes, String> {
    let problem = |why: String| format!("`{}`: {why}", name.display());
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let (folder, path) = (base.canonicalize(), base.join(name).canonicalize());
    let (folder, path) = match (folder, path) {
        (Ok(folder), Ok(path)) => (folder, path),
        (Err(error), _) | (_, Err(error)) => return Err(problem(error.to_string())),
    };
    if !path.starts_with(&folder) {
        return Err(problem("leads out of the folder of gateway.yaml".into()));
    }
    regular_file::read(&path, GENERATED_BYTES_MAX).map(Bytes::from).map_err(problem)
}

fn field(name: &HeaderName, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value)
        .or_else(|_| HeaderValue::from_bytes(value.as_bytes()))
        .map_err(|_| format!("the value of `{name}` holds characters that no field may have (RFC 9110 §5.5)"))
}

fn body(doc: &RequestDoc, span: Span, names: &mut Names, diags: &mut Diagnostics) -> Option<RequestBody> {
    let forms = [
        doc.json.is_some(),
        doc.text.is_some(),
        doc.form.is_some(),
        doc.body_base64.is_some(),
        doc.body_file.is_some(),
        doc.size.is_some(),
    ];
    if forms.iter().filter(|given| **given).count() > 1 {
        let message = "a request has one body: `json`, `text`, `form`, `body_base64`, `body_file` or `size`";
        diags.push(Diagnostic::error("policy.bad_value", span, message).with_help("keep one of them"));
        return None;
    }
    if let Some(node) = &doc.json {
        return Tree::compile(node, names, diags).map(RequestBody::Json);
    }
    if let Some(text) = &doc.text {
        return TestText::compile(&text.0, names, diags).map(RequestBody::Text);
    }
    if let Some(text) = &doc.body_base64 {
        return TestText::compile(&text.0, names, diags).map(RequestBody::Base64);
    }
    if let Some(name) = &doc.body_file {
        let path = PathBuf::from(name.as_str());
        if path.as_os_str().is_empty() || path.components().any(|part| !matches!(part, Component::Normal(_))) {
            let message = format!("`{}` does not lie below the folder of gateway.yaml", name.as_str());
            let help = "write its name from there: `body_file: bodies/order.json`";
            diags.push(Diagnostic::error("policy.bad_value", name.span(), message).with_help(help));
            return None;
        }
        return Some(RequestBody::File(path));
    }
    if let Some(pairs) = &doc.form {
        let mut form = Vec::new();
        for (name, texts) in pairs {
            for text in texts {
                form.push((name.name.clone(), TestText::compile(&text.0, names, diags)?));
            }
        }
        return Some(RequestBody::Form(form));
    }
    match doc.size {
        Some(size) if size.bytes > GENERATED_BYTES_MAX => {
            let message = format!("a generated body has at most {GENERATED_BYTES_MAX} bytes");
            diags.push(
                Diagnostic::error("policy.bad_value", size.span, message)
                    .with_help("make it smaller: limits can be tested with a smaller one"),
            );
            None
        }
        Some(size) => Some(RequestBody::Size(size.bytes)),
        None => Some(RequestBody::Empty),
    }
}

fn basic(pairs: &Entries<Text>, span: Span, names: &mut Names, diags: &mut Diagnostics) -> Option<(String, TestText)> {
    match pairs.0.as_slice() {
        [(name, password)] => Some((name.name.clone(), TestText::compile(&password.0, names, diags)?)),
        _ => {
            let message = "`basic` takes one name with its password: `basic: { ann: pw }`";
            diags.push(
                Diagnostic::error("policy.bad_value", span, message)
                    .with_help("send another pair with another request"),
            );
            None
        }
    }
}

fn api_key(id: &Literal, world: &World, diags: &mut Diagnostics) -> Option<String> {
    let sets = || world.resources.api_keys.values();
    if let Some(key) = sets().find_map(|keys| keys.get(id.as_str())) {
        return Some(key.value.clone());
    }
    let message = format!("`given: api_keys` has no key `{}`", id.as_str());
    let known: Vec<&str> = sets().flat_map(|keys| keys.keys()).map(String::as_str).collect();
    let help = match known.is_empty() {
        true => "write `given: { api_keys: { SET: { ID: { value: k-1 } } } }`".to_owned(),
        false => format!("it has: {}", known.join(", ")),
    };
    diags.push(Diagnostic::error("policy.unknown_name", id.span(), message).with_help(help));
    None
}

pub(super) fn address(literal: Option<&Literal>, diags: &mut Diagnostics) -> Option<Option<IpAddr>> {
    let Some(literal) = literal else { return Some(None) };
    match literal.as_str().parse::<IpAddr>() {
        Ok(address) => Some(Some(address.to_canonical())),
        Err(_) => {
            let message = format!("`{}` is no IP address", literal.as_str());
            diags.push(
                Diagnostic::error("policy.bad_value", literal.span(), message)
                    .with_help("write `192.0.2.7` or `2001:db8::7`"),
            );
            None
        }
    }
}
