//! Where a credential is put: the `inject:` of assertions that make one, the mirror of `from:`.

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::engine::exchange::Exchange;
use crate::engine::read::Side;
use crate::source::{Literal, Spanned};

/// A credential target: a field of the request that goes upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// Header field; the client's of that name is removed.
    header: Literal,
    /// The word before the credential, and one space.
    #[serde(default)]
    scheme: Option<Literal>,
}

/// A resolved credential target.
#[derive(Debug)]
pub struct Target {
    name: HeaderName,
    /// With its space.
    scheme: String,
}

impl Compile<'_> {
    /// Resolves a credential target.
    pub fn inject(&mut self, inject: &Spanned<Inject>) -> Option<Target> {
        let name = self.literal(&inject.value.header)?;
        let Ok(name) = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) else {
            let message = format!("`{name}` is no field name (RFC 9110 §5.1)");
            let help = "letters, digits and `-`: `inject: { header: x-assertion }`";
            return self.refuse("policy.bad_value", inject.value.header.span(), message, help);
        };
        let scheme = match &inject.value.scheme {
            Some(scheme) => format!("{} ", self.literal(scheme)?),
            None => String::new(),
        };
        if HeaderValue::from_str(&scheme).is_err() {
            let help = "write one word: `scheme: Bearer`";
            return self.refuse("policy.bad_value", inject.span, "this scheme cannot stand in a field", help);
        }
        // Set on some ways only, it is not the client's on the others.
        self.owned_headers.push(name.clone());
        Some(Target { name, scheme })
    }
}

impl Target {
    /// `Authorization: Bearer`.
    pub fn bearer() -> Target {
        Target { name: AUTHORIZATION, scheme: "Bearer ".to_owned() }
    }

    /// The field.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The field's value, which no `Debug` shows; `None` where the credential cannot stand there.
    pub fn value(&self, credential: &[u8]) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(&[self.scheme.as_bytes(), credential].concat()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Puts the credential into the request; `false` where it cannot stand there.
    pub fn put(&self, x: &mut Exchange, credential: &str) -> bool {
        let Ok(value) = HeaderValue::from_str(&format!("{}{credential}", self.scheme)) else { return false };
        if let Some(headers) = x.headers_mut(Side::Request) {
            headers.insert(&self.name, value);
        }
        x.own_header(&self.name);
        true
    }
}
