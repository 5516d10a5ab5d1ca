//! `secret:`, a name for a value that is kept elsewhere.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::key::Encoding;
use crate::compile::resources::Resources;
use crate::policy::resources::{Build, ResourceKind};
use crate::secret::Secret;
use crate::source::{Diagnostic, Literal, Name, Node, read};

/// As many bytes as any algorithm asks of its key (HS512, RFC 7518 §3.2): a key made of it loads.
const KEY_BYTES_MAX: usize = 64;

pub const KIND: ResourceKind = ResourceKind {
    word: "secret",
    summary: "A name for a secret value that is kept in the environment or in a file.",
    schema: || schemars::schema_for!(SecretDoc),
    build,
};

/// Largest file a secret is read from, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    secret: Name,
    /// Where its value is kept.
    from: From,
    /// How the value is written there.
    #[serde(default)]
    encoding: Encoding,
    /// Shorter values are a load error.
    #[serde(default)]
    min_bytes: Option<u32>,
}

/// Exactly one of `env` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct From {
    /// Variable of the process's environment.
    #[serde(default)]
    env: Option<Literal>,
    /// File, relative to gateway.yaml. One line feed at its end is not part of the value.
    #[serde(default)]
    file: Option<Literal>,
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let value = value(name, node, build);
    resources.secrets.insert(name.name.as_str().into(), value);
}

fn value(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<Secret> {
    let doc: SecretDoc = read(node, None, "a secret", build.diags)?;
    let written = match build.given {
        // A test sees the value it gives; any other secret has one that nobody knows.
        Some(given) => match given.secrets.get(&name.name) {
            Some(value) => return Some(Secret::from(value.clone())),
            None => return Some(unknown_secret(&name.name)),
        },
        None => kept(&doc, name, build)?,
    };
    let bytes = match doc.encoding.decode(&written) {
        Ok(bytes) => bytes,
        Err(why) => {
            let message = format!("the value of secret `{}` is {why}", name.name);
            let help = "mend the value where it is kept, or say how it is written: `encoding: base64`";
            build.diags.push(Diagnostic::error("policy.secret_unreadable", name.span, message).with_help(help));
            return None;
        }
    };
    let least = usize::try_from(doc.min_bytes.unwrap_or(1)).unwrap_or(1);
    if bytes.len() < least {
        let message =
            format!("the value of secret `{}` has {} bytes, at least {least} are wanted", name.name, bytes.len());
        let help = "give it a longer value; whoever can guess a secret needs no key";
        build.diags.push(Diagnostic::error("policy.secret_unreadable", name.span, message).with_help(help));
        return None;
    }
    Some(Secret::new(bytes))
}

/// The value of a secret that a test does not give, which nobody knows.
fn unknown_secret(name: &str) -> Secret {
    let text = format!("not given to this test: {name}");
    Secret::from(format!("{text:.<KEY_BYTES_MAX$}"))
}

fn kept(doc: &SecretDoc, name: &Name, build: &mut Build<'_>) -> Option<Vec<u8>> {
    let mut refuse = |message: String, help: String| {
        build.diags.push(Diagnostic::error("policy.secret_missing", name.span, message).with_help(help));
    };
    match (&doc.from.env, &doc.from.file) {
        (Some(variable), None) => {
            let variable = build.context().literal(variable)?;
            let value = build.values.process_env.get(&variable).filter(|value| !value.is_empty());
            if value.is_none() {
                let message =
                    format!("secret `{}` has no value: the environment variable `{variable}` is not set", name.name);
                let help = format!("start the gateway with `{variable}=...` in its environment");
                build.diags.push(Diagnostic::error("policy.secret_missing", name.span, message).with_help(help));
            }
            value.map(|value| value.clone().into_bytes())
        }
        (None, Some(file)) => {
            let path = build.path_of(file)?;
            match build.around.resources.outside.read_secret(&path, FILE_BYTES_MAX) {
                Ok(bytes) => Some(without_line_feed(&bytes).to_vec()),
                Err(why) => {
                    let message = format!("secret `{}` has no value: {}: {why}", name.name, path.display());
                    let help = "write the file, readable for the gateway's user only".to_owned();
                    build.diags.push(Diagnostic::error("policy.secret_missing", name.span, message).with_help(help));
                    None
                }
            }
        }
        _ => {
            let help = format!("write `from: {{ env: {} }}`", name.name.to_uppercase());
            refuse("`from` takes exactly one of `env` and `file`".into(), help);
            None
        }
    }
}

fn without_line_feed(bytes: &[u8]) -> &[u8] {
    let Some(line) = bytes.strip_suffix(b"\n") else { return bytes };
    line.strip_suffix(b"\r").unwrap_or(line)
}
