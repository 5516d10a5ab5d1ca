//! Compiled resources, by name: what policies refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compile::outside::Outside;
use crate::engine::value::{Text, Value};
use crate::identity::api_keys::ApiKeys;
use crate::identity::users::Users;
use crate::secret::Secret;
use crate::upstream::Upstream;

/// A symmetric key with the algorithm it is fixed to.
#[derive(Clone, Debug)]
pub struct SymmetricKey {
    pub name: Text,
    pub material: Secret,
    /// Algorithm words such as `HS256`; empty where any fits.
    pub algorithms: Vec<String>,
}

/// Every resource of a set of files. A resource that was declared but is broken stands as `None`, so that
/// whoever refers to it is not told that it does not exist.
#[derive(Clone, Default)]
pub struct Resources {
    pub users: BTreeMap<Text, Option<Arc<Users>>>,
    pub api_keys: BTreeMap<Text, Option<Arc<ApiKeys>>>,
    pub keys: BTreeMap<Text, Option<Arc<SymmetricKey>>>,
    pub secrets: BTreeMap<Text, Option<Secret>>,
    pub lists: BTreeMap<Text, Option<Arc<[Value]>>>,
    pub upstreams: BTreeMap<Text, Option<Arc<Upstream>>>,
    /// Names of gateway.yaml's `env:` that are set.
    pub env: BTreeMap<Text, Text>,
    /// Names that gateway.yaml lists, set or not.
    pub env_listed: Vec<Text>,
    /// Files that documents name.
    pub outside: Outside,
}
