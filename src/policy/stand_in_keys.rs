//! Keys that policy tests sign and verify with: nothing of the machine is read in a test.
//!
//! One for each algorithm, made when it is first needed and kept as long as the process lives. Real tokens are never
//! verified with them: they go into sets that were compiled with `given` and nowhere else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::jose::{Algorithm, Algorithms, SigningKey};

/// The one that is made fastest, of those that are allowed.
const PREFERRED: [Algorithm; 4] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Es384, Algorithm::Es512];

/// The algorithm that tests sign with, where these are allowed. `None` where all of them need a shared secret.
pub fn algorithm(allowed: Algorithms) -> Option<Algorithm> {
    let preferred = PREFERRED.into_iter().find(|algorithm| allowed.has(*algorithm));
    preferred.or_else(|| allowed.and(Algorithms::RSA.into()).iter().next())
}

/// The key of an algorithm, under a name that tells what it is. `None` for an HMAC.
pub fn signing(algorithm: Algorithm) -> Option<Arc<SigningKey>> {
    keyed(algorithm, "test")
}

/// A key that no provider has.
pub fn foreign(algorithm: Algorithm) -> Option<Arc<SigningKey>> {
    keyed(algorithm, "unknown")
}

fn keyed(algorithm: Algorithm, name: &'static str) -> Option<Arc<SigningKey>> {
    type Keys = HashMap<(&'static str, &'static str), Arc<SigningKey>>;
    static KEYS: OnceLock<Mutex<Keys>> = OnceLock::new();
    let mut keys = KEYS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = keys.get(&(name, algorithm.word())) {
        return Some(known.clone());
    }
    let key = Arc::new(SigningKey::generate(algorithm).ok()?.named(&format!("{name}-{algorithm}")));
    keys.insert((name, algorithm.word()), key.clone());
    Some(key)
}
