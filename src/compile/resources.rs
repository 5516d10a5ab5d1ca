//! Compiled resources, by name: what policies refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::broker::Session;
use crate::clock::Clock;
use crate::compile::named::{Named, Shelf, Stamp};
use crate::compile::outside::Outside;
use crate::engine::value::{Text, Value};
use crate::identity::api_keys::ApiKeys;
use crate::identity::own_keys::Rotating;
use crate::identity::provider::Provider;
use crate::identity::users::Users;
use crate::jose::{Algorithm, Algorithms, KeySet, SigningKey};
use crate::secret::Secret;
use crate::tls::Revocation;
use crate::upstream::Upstream;

/// A symmetric key with the algorithm it is fixed to.
#[derive(Clone, Debug)]
pub struct SymmetricKey {
    pub name: Text,
    pub material: Secret,
    /// Algorithm words such as `HS256`; empty where any fits.
    pub algorithms: Vec<String>,
    /// Its name in tokens.
    pub kid: Option<String>,
}

/// Certificates under a name: authorities that are trusted.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub list: Vec<CertificateDer<'static>>,
    /// Which of the certificates that they have signed count no more.
    pub revocation: Revocation,
}

/// A private key, for handshakes, for tokens, or for both.
pub struct PrivateKey {
    /// With its certificate and chain, where they are there.
    pub certified: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// What signs tokens.
    pub signing: Option<Signer>,
    /// It stands in for the real one, in a policy test, which reads nothing of the machine.
    pub is_stand_in: bool,
}

/// What signs tokens.
#[derive(Clone, Debug)]
pub enum Signer {
    /// As it stands in a file.
    Fixed(Arc<SigningKey>),
    /// Made here, and exchanged by its age.
    Own(Arc<Rotating>),
}

impl Signer {
    /// What it signs with.
    pub fn algorithms(&self) -> Algorithms {
        match self {
            Signer::Fixed(key) => key.algorithms(),
            Signer::Own(own) => std::iter::once::<Algorithm>(own.key.algorithm()).collect(),
        }
    }

    /// The key that signs now. `None` where the system gives none.
    pub fn now(&self, clock: &Clock) -> Option<Arc<SigningKey>> {
        match self {
            Signer::Fixed(key) => Some(key.clone()),
            Signer::Own(own) => own.key.signing(clock, own.rotate_s),
        }
    }
}

/// Keys whose public halves are served, and where.
#[derive(Clone, Debug)]
pub struct Published {
    /// A canonical path without parameters.
    pub path: Text,
    pub keys: PublishedKeys,
}

#[derive(Clone, Debug)]
pub enum PublishedKeys {
    Fixed(Arc<KeySet>),
    Own(Arc<Rotating>),
}

impl PublishedKeys {
    /// What others should know now.
    pub fn now(&self, clock: &Clock) -> Option<Arc<KeySet>> {
        match self {
            PublishedKeys::Fixed(keys) => Some(keys.clone()),
            PublishedKeys::Own(own) => own.key.published(clock, own.rotate_s),
        }
    }
}

/// Every resource of a set of files. A resource that was declared but is broken stands as `None`, so that
/// whoever refers to it is not told that it does not exist.
///
/// Every collection is a [`Named`], so that it is known afterwards what a service was compiled from.
#[derive(Clone, Default)]
pub struct Resources {
    pub users: Named<Option<Arc<Users>>>,
    pub api_keys: Named<Option<Arc<ApiKeys>>>,
    pub keys: Named<Option<Arc<SymmetricKey>>>,
    pub certificates: Named<Option<Arc<Certificates>>>,
    pub public_keys: Named<Option<Arc<KeySet>>>,
    pub private_keys: Named<Option<Arc<PrivateKey>>>,
    /// By the names of their keys.
    pub published: Named<Published>,
    pub providers: Named<Option<Arc<Provider>>>,
    pub secrets: Named<Option<Secret>>,
    pub lists: Named<Option<Arc<[Value]>>>,
    pub upstreams: Named<Option<Arc<Upstream>>>,
    pub sessions: Named<Option<Arc<Session>>>,
    /// Names of gateway.yaml's `env:` that are set.
    pub env: Arc<BTreeMap<Text, Text>>,
    /// Names that gateway.yaml lists, set or not.
    pub env_listed: Arc<[Text]>,
    /// Files that documents name.
    pub outside: Outside,
}

impl Resources {
    /// Every collection. What is not among them is the same as long as the process lives.
    pub fn shelves(&self) -> [&dyn Shelf; 12] {
        let Resources {
            users,
            api_keys,
            keys,
            certificates,
            public_keys,
            private_keys,
            published,
            providers,
            secrets,
            lists,
            upstreams,
            sessions,
            env: _,
            env_listed: _,
            outside: _,
        } = self;
        [
            users,
            api_keys,
            keys,
            certificates,
            public_keys,
            private_keys,
            published,
            providers,
            secrets,
            lists,
            upstreams,
            sessions,
        ]
    }

    /// Takes what one document has made, under the stamp of its making.
    pub fn absorb(&mut self, made: &Resources, stamp: Stamp) {
        self.users.absorb(&made.users, stamp);
        self.api_keys.absorb(&made.api_keys, stamp);
        self.keys.absorb(&made.keys, stamp);
        self.certificates.absorb(&made.certificates, stamp);
        self.public_keys.absorb(&made.public_keys, stamp);
        self.private_keys.absorb(&made.private_keys, stamp);
        self.published.absorb(&made.published, stamp);
        self.providers.absorb(&made.providers, stamp);
        self.secrets.absorb(&made.secrets, stamp);
        self.lists.absorb(&made.lists, stamp);
        self.upstreams.absorb(&made.upstreams, stamp);
        self.sessions.absorb(&made.sessions, stamp);
    }
}
