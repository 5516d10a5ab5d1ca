//! `users:`, a small local directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::resources::Resources;
use crate::engine::value::Text;
use crate::identity::password::PasswordHash;
use crate::identity::users::{User, Users, htpasswd};
use crate::policy::resources::{Build, GivenUser, ResourceKind};
use crate::source::{Diagnostic, Literal, Name, Node, OneOrMany, Span, read};

pub const KIND: ResourceKind = ResourceKind {
    word: "users",
    summary: "A small local directory of users with hashed passwords.",
    schema: || schemars::schema_for!(UsersDoc),
    build,
};

/// Largest htpasswd file, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A directory of users. At least one of `entries` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UsersDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    users: Name,
    /// Users by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, UserDoc>")]
    entries: BTreeMap<String, Node>,
    /// An htpasswd file with argon2, bcrypt, scrypt, PBKDF2 or sha512-crypt lines, relative to gateway.yaml.
    #[serde(default)]
    file: Option<Literal>,
    /// Names are compared without case.
    #[serde(default)]
    ignore_case: bool,
}

/// One user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserDoc {
    /// Hash of the password, as `gatewright secret hash` prints it.
    password: Literal,
    /// Read as `auth.groups`.
    #[serde(default)]
    groups: Option<OneOrMany<Literal>>,
    /// Further texts, read as `auth.attributes.NAME`.
    #[serde(default)]
    attributes: BTreeMap<String, Literal>,
    /// A disabled user is refused like an unknown one.
    #[serde(default)]
    disabled: bool,
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let users = users(name, node, build).map(Arc::new);
    resources.users.insert(name.name.as_str().into(), users);
}

fn users(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<Users> {
    let given = build.given.and_then(|given| given.users.get(&name.name));
    let doc: UsersDoc = read(node, None, "a directory of users", build.diags)?;
    let users = match given {
        Some(given) => given.iter().map(|(name, user)| (name.clone(), given_user(user))).collect(),
        None => listed(&doc, name, build)?,
    };
    match Users::new(&name.name, doc.ignore_case, users) {
        Ok(users) => Some(users),
        Err(why) => refuse(name.span, why, build),
    }
}

fn listed(doc: &UsersDoc, name: &Name, build: &mut Build<'_>) -> Option<Vec<(String, User)>> {
    let entries: Vec<Option<(String, User)>> =
        doc.entries.iter().map(|(name, node)| Some((name.clone(), user(node, build)?))).collect();
    let from_file = doc.file.as_ref().map(|file| from_file(file, build));
    let mut users = entries.into_iter().collect::<Option<Vec<_>>>()?;
    if let Some(more) = from_file {
        users.extend(more?);
    }
    if doc.entries.is_empty() && doc.file.is_none() {
        return refuse(name.span, "a directory of users needs `entries` or `file`".into(), build);
    }
    Some(users)
}

/// A hash that a test can afford on every run; never read from a file.
fn given_user(user: &GivenUser) -> User {
    User {
        password: PasswordHash::for_test(user.password.as_bytes()),
        groups: user.groups.iter().map(|group| Text::from(group.as_str())).collect(),
        attributes: user.attributes.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect(),
        disabled: user.disabled,
    }
}

fn user(node: &Node, build: &mut Build<'_>) -> Option<User> {
    let doc: UserDoc = read(node, None, "a user", build.diags)?;
    let password = password(&doc.password, build);
    let mut context = build.context();
    let groups = doc.groups.iter().flat_map(|groups| groups.iter());
    let groups: Option<Vec<Text>> = groups.map(|group| context.literal(group).map(Text::from)).collect();
    let attributes = doc.attributes.iter();
    let attributes: Option<BTreeMap<Text, Text>> =
        attributes.map(|(name, value)| Some((name.as_str().into(), context.literal(value)?.into()))).collect();
    Some(User { password: password?, groups: groups?.into(), attributes: attributes?, disabled: doc.disabled })
}

fn password(literal: &Literal, build: &mut Build<'_>) -> Option<PasswordHash> {
    let text = build.context().literal(literal)?;
    PasswordHash::parse(&text)
        .map_err(|why| {
            let diagnostic = Diagnostic::error("policy.password_in_clear", literal.span(), why)
                .with_help("`gatewright secret hash` makes one from a password that it reads from the terminal");
            build.diags.push(diagnostic);
        })
        .ok()
}

fn from_file(file: &Literal, build: &mut Build<'_>) -> Option<Vec<(String, User)>> {
    let path = build.path_of(file)?;
    let text = match build.around.resources.outside.read_text(&path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(why) => {
            let message = format!("the users cannot be read: {}: {why}", path.display());
            let help = "put an htpasswd file there, or correct the path, which begins at gateway.yaml";
            build.diags.push(Diagnostic::error("policy.unreadable", file.span(), message).with_help(help));
            return None;
        }
    };
    match htpasswd::parse(&text) {
        Ok(entries) => {
            let user = |password| User { password, groups: [].into(), attributes: BTreeMap::new(), disabled: false };
            Some(entries.into_iter().map(|(name, password)| (name, user(password))).collect())
        }
        Err(errors) => {
            for error in errors {
                let message = format!("{}:{}: {}", path.display(), error.line, error.text);
                build.diags.push(Diagnostic::error("policy.bad_value", file.0.span(), message));
            }
            None
        }
    }
}

fn refuse<T>(span: Span, message: String, build: &mut Build<'_>) -> Option<T> {
    build.diags.push(Diagnostic::error("policy.bad_value", span, message));
    None
}
