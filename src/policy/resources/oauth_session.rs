//! `oauth_session:`, a stored outbound grant: where its tokens come from, where they are kept, and where they may go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::broker::request::{Client, ClientAuth};
use crate::broker::{AllowedOrigin, GrantKind, Profile, Session, Settings, file};
use crate::compile::calling::CallingDoc;
use crate::compile::resources::Resources;
use crate::identity::key_sets::check_url;
use crate::policy::resources::identity_provider::networks;
use crate::policy::resources::{Build, ResourceKind};
use crate::source::{Diagnostic, DurationValue, Expression, Literal, Name, Node, OneOrMany, Span, Spanned, read};
use crate::upstream::Origin;

pub const KIND: ResourceKind = ResourceKind {
    word: "oauth_session",
    summary: "A stored grant for an upstream: its tokens, who renews them, and where they may go.",
    schema: || schemars::schema_for!(SessionDoc),
    build,
};

/// Defaults of `refresh`, and of a token whose answer does not say how long it lives.
const BEFORE: Duration = Duration::from_secs(5 * 60);
const TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(24 * 60 * 60);
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Longest refresh: requests wait for it.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A stored grant. Its file holds JSON with the names of RFC 6749 §5.1: `refresh_token`, `access_token`, and `expires_at`
/// in Unix seconds; `instance_url` and `account` where there are such.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SessionDoc {
    /// Its name.
    oauth_session: Name,
    /// What it speaks.
    kind: KindWord,
    /// Whose it is: one session for the organisation.
    #[serde(default)]
    owner: OwnerWord,
    /// Known quirks of a provider.
    #[serde(default)]
    profile: ProfileWord,
    /// How the grant was got, or is. `authorization_code` and `refresh_token` renew with the refresh token of the file.
    grant: GrantWord,
    /// Where a person grants it, for whoever connects the session.
    #[serde(default)]
    authorize_url: Option<Literal>,
    /// The token endpoint: `https://`, or `http://` on this machine.
    token_url: Literal,
    /// Who we are for the provider.
    client: ClientDoc,
    /// What is asked for.
    #[serde(default)]
    scopes: OneOrMany<Literal>,
    /// Where the token may go: origins, `https://` or on this machine, with one leading `*.` for all below a domain.
    allowed_origins: Spanned<OneOrMany<Literal>>,
    /// When and how it is renewed.
    #[serde(default)]
    refresh: RefreshDoc,
    /// How long a token lives whose answer does not say; 1h without it.
    #[serde(default)]
    lifetime_default: Option<DurationValue>,
    /// A condition over `answer` that says that the token is not good; `answer.status == 401` without it.
    #[serde(default)]
    expired_when: Option<Expression>,
    /// The file that the tokens are kept in; `sessions/NAME.json` in the state folder without it.
    #[serde(default)]
    file: Option<Literal>,
    /// TLS of the token endpoint.
    #[serde(default)]
    tls: Option<Spanned<CallingDoc>>,
    /// Hosts that `*.` stands for may have private addresses: `true`, or networks.
    #[serde(default)]
    allow_private: Option<OneOrMany<Literal>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KindWord {
    Oauth2,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum OwnerWord {
    /// One session for all requests.
    #[default]
    Organization,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum ProfileWord {
    #[default]
    Generic,
    /// Answers name the `instance_url`, and say nothing of how long a token lives.
    Salesforce,
    Twitter,
    Google,
    Microsoft,
    /// Errors come with status 200.
    Github,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum GrantWord {
    AuthorizationCode,
    RefreshToken,
    /// With the client's own credentials (RFC 6749 §4.4): it needs no file to begin with.
    ClientCredentials,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClientDoc {
    /// Its id at the provider.
    id: Literal,
    /// Its secret.
    secret: SecretRef,
    /// How it proves itself: in `Authorization` (`basic`) or in the body (`post`).
    #[serde(default)]
    auth: AuthWord,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretRef {
    /// Name of a `secret`.
    secret: Name,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum AuthWord {
    #[default]
    Basic,
    Post,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RefreshDoc {
    /// So long before its end, while it still serves; 5m without it.
    before: Option<DurationValue>,
    /// The whole of one refresh, at most 1m; 10s without it.
    timeout: Option<DurationValue>,
    /// At least this often, so that the grant does not lapse; 24h without it.
    keep_alive: Option<DurationValue>,
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let session = session(node, build);
    resources.sessions.insert(name.name.as_str().into(), session);
}

fn session(node: &Node, build: &mut Build<'_>) -> Option<Arc<Session>> {
    let doc: SessionDoc = read(node, None, "a stored session", build.diags)?;
    let (KindWord::Oauth2, OwnerWord::Organization) = (doc.kind, doc.owner);
    let token_url = url(&doc.token_url, build);
    if let Some(authorize) = &doc.authorize_url {
        url(authorize, build)?;
    }
    let client = client(&doc.client, build);
    let allowed_origins = origins(&doc.allowed_origins, build);
    let scopes: Option<Vec<String>> = doc.scopes.iter().map(|scope| build.context().literal(scope)).collect();
    let tls = match &doc.tls {
        Some(tls) => Some(CallingDoc::calling(tls, &mut build.context())?),
        None => None,
    };
    let allow_private: Arc<[IpNet]> = networks(&doc.allow_private, build)?;
    let timeout = doc.refresh.timeout.as_ref().map_or(TIMEOUT, |time| time.duration);
    if timeout > TIMEOUT_MAX || timeout.is_zero() {
        let span = doc.refresh.timeout.as_ref().map_or(doc.oauth_session.span, |time| time.span);
        return refuse(span, "requests wait for a refresh: at most 1m", "write `timeout: 10s`", build);
    }
    let of = |time: &Option<DurationValue>, usual: Duration| time.as_ref().map_or(usual, |time| time.duration);
    let settings = Settings {
        name: doc.oauth_session.name.as_str().into(),
        profile: profile(doc.profile),
        grant: match doc.grant {
            GrantWord::AuthorizationCode | GrantWord::RefreshToken => GrantKind::Refresh,
            GrantWord::ClientCredentials => GrantKind::ClientCredentials,
        },
        token_url: token_url?,
        client: client?,
        scopes: scopes?,
        allowed_origins: allowed_origins?,
        tls,
        allow_private,
        before: of(&doc.refresh.before, BEFORE),
        timeout,
        keep_alive: of(&doc.refresh.keep_alive, KEEP_ALIVE),
        lifetime: of(&doc.lifetime_default, LIFETIME),
        expired_when: doc.expired_when.as_ref().and_then(|when| when.0.as_text()).map(str::to_owned),
        file: path(&doc, build)?,
    };
    // A test reads nothing of the machine.
    if let Some(given) = build.given {
        let plan = given.sessions.get(&doc.oauth_session.name).cloned().unwrap_or_default();
        return Some(Arc::new(Session::given(settings, plan)));
    }
    if file::is_open(&settings.file) {
        let message = format!("{}: everybody on this machine may read these tokens", settings.file.display());
        let help = "let only the gateway's user read it: `chmod 600`";
        build.diags.push(Diagnostic::warning("policy.open_key", doc.oauth_session.span, message).with_help(help));
    }
    Some(build.values.sessions.add(settings))
}

fn profile(word: ProfileWord) -> Profile {
    match word {
        ProfileWord::Generic => Profile::Generic,
        ProfileWord::Salesforce => Profile::Salesforce,
        ProfileWord::Twitter => Profile::Twitter,
        ProfileWord::Google => Profile::Google,
        ProfileWord::Microsoft => Profile::Microsoft,
        ProfileWord::Github => Profile::Github,
    }
}

/// Absolute, so that every document that names the file means the same.
fn path(doc: &SessionDoc, build: &mut Build<'_>) -> Option<PathBuf> {
    let path = match &doc.file {
        Some(file) => build.path_of(file)?,
        None => build.values.sessions.usual_file(&doc.oauth_session.name),
    };
    Some(crate::compile::outside::normal(&path))
}

fn url(literal: &Literal, build: &mut Build<'_>) -> Option<String> {
    let url = build.context().literal(literal)?;
    match check_url(&url) {
        Ok(()) => Some(url),
        Err(_) => {
            let message = format!("`{url}` is no URL that credentials may be sent to");
            let help = "write `https://login.example.com/token`, or `http://` on this machine";
            refuse(literal.span(), &message, help, build)
        }
    }
}

fn client(doc: &ClientDoc, build: &mut Build<'_>) -> Option<Client> {
    let id = build.context().literal(&doc.id)?;
    let known = &build.around.resources.secrets;
    let secret = match known.get(doc.secret.secret.name.as_str()) {
        Some(secret) => secret.clone()?,
        None => return build.context().unknown_name("secret", &doc.secret.secret, known.keys()),
    };
    let auth = match doc.auth {
        AuthWord::Basic => ClientAuth::Basic,
        AuthWord::Post => ClientAuth::Post,
    };
    Some(Client { id, secret, auth })
}

fn origins(list: &Spanned<OneOrMany<Literal>>, build: &mut Build<'_>) -> Option<Vec<AllowedOrigin>> {
    let mut origins = Vec::new();
    for literal in list.value.iter() {
        let text = build.context().literal(literal)?;
        match origin(&text) {
            Ok(origin) => origins.push(origin),
            Err(why) => {
                let help = "write `https://api.example.com`, or `https://*.my.example.com` for all below a domain";
                return refuse(literal.span(), &why, help, build);
            }
        }
    }
    if origins.is_empty() {
        let help = "write `allowed_origins: [\"https://api.example.com\"]`";
        return refuse(list.span, "a token that may go nowhere is of no use", help, build);
    }
    Some(origins)
}

fn origin(text: &str) -> Result<AllowedOrigin, String> {
    let (written, is_pattern) = match text.split_once("://*.") {
        Some((scheme, below)) => (format!("{scheme}://{below}"), true),
        None => (text.to_owned(), false),
    };
    let origin = Origin::parse(&written).map_err(|_| format!("`{text}` is no origin that a token may go to"))?;
    let host = origin.host.to_string().to_ascii_lowercase();
    if !origin.https && (is_pattern || check_url(&written).is_err()) {
        return Err(format!("`{text}` is not https: everybody on the way could read the token"));
    }
    if is_pattern && (!host.contains('.') || host.parse::<std::net::IpAddr>().is_ok()) {
        return Err(format!("`{text}` admits all of a top-level domain"));
    }
    let host = if is_pattern { format!(".{host}") } else { host };
    Ok(AllowedOrigin { https: origin.https, host, port: origin.port, is_pattern })
}

fn refuse<T>(span: Span, message: &str, help: &str, build: &mut Build<'_>) -> Option<T> {
    build.diags.push(Diagnostic::error("policy.bad_session", span, message).with_help(help));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_over_tls_or_stay_on_this_machine() {
        for fine in ["https://a.example", "https://a.example:8443", "https://*.my.example", "http://127.0.0.1:9000"] {
            assert!(origin(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "http://a.example",
            "https://*.example",
            "https://*",
            "https://a.*.example",
            "https://*.10.0.0.1",
            "http://*.localhost",
            "a.example",
            "https://a.example/",
            "https://u@a.example",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
        let below = origin("https://*.My.example:8443").unwrap();
        assert!(below.admits(true, "a.my.example", 8443) && !below.admits(true, "my.example", 8443));
    }
}
