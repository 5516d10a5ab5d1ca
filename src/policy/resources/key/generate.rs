//! Keys that the gateway makes itself: `from: { generate: ES256, rotate: 90d }`.

use std::sync::Arc;

use super::{KeyDoc, KeyKind, algorithms, refuse};
use crate::clock::Clock;
use crate::identity::own_keys::{OwnKey, ROTATE_S, Rotating};
use crate::jose::{Algorithm, Algorithms};
use crate::policy::resources::Build;
use crate::policy::stand_in_keys;
use crate::source::{Diagnostic, Literal, Name, suggest};

/// Whether what is said of generating does not go together; it was reported then.
pub(super) fn is_refused(doc: &KeyDoc, build: &mut Build<'_>) -> bool {
    let from = &doc.from.value;
    let wrong = if from.generate.is_none() {
        let help = "remove `rotate`, or let the gateway make the key: `from: { generate: ES256, rotate: 90d }`";
        from.rotate.as_ref().map(|_| ("only a key that the gateway makes is exchanged by its age", help))
    } else if doc.kind as u8 != KeyKind::Private as u8 {
        Some(("a key that the gateway makes is `private`", "write `kind: private`"))
    } else if from.secret.is_some() || from.file.is_some() || from.jwks_file.is_some() {
        Some(("a key is made by the gateway or kept elsewhere, not both", "keep `generate`, or the other"))
    } else if from.kid.is_some() || doc.kid.as_ref().is_some_and(|kid| kid.as_str() != "auto") {
        let help = "remove `kid`: no two keys may have one name, and each is named by its thumbprint (RFC 7638)";
        Some(("a key that the gateway makes has no name of its own", help))
    } else {
        None
    };
    wrong.is_some_and(|(message, help)| refuse::<()>(doc.from.span, message, help, build).is_none())
}

/// The key, made or read; in a test one that the test has.
pub(super) fn key(name: &Name, word: &Literal, doc: &KeyDoc, build: &mut Build<'_>) -> Option<Arc<Rotating>> {
    let algorithm = algorithm(word, build);
    let rotate_s = rotate_s(doc, build);
    let allowed = algorithms(doc, build)?;
    let (algorithm, rotate_s) = (algorithm?, rotate_s?);
    if let Some(written) = &doc.algorithms
        && allowed != std::iter::once(algorithm).collect::<Algorithms>()
    {
        let message = format!("a key that is made for {algorithm} goes with nothing else");
        return refuse(written.span, &message, "leave `algorithms` out", build);
    }
    if build.given.is_some() {
        let first = stand_in_keys::signing(algorithm)?;
        let key = Arc::new(OwnKey::given(&name.name, algorithm, first));
        return Some(Arc::new(Rotating { key, rotate_s }));
    }
    let now_s = Clock::system().wall().as_second();
    match build.values.own_keys.of(&name.name, algorithm, now_s) {
        Ok(key) => Some(Arc::new(Rotating { key, rotate_s })),
        Err(why) => {
            let (why, cure) = why.rsplit_once("; ").unwrap_or((&why, "see `gatewright explain policy.unusable_key`"));
            let message = format!("key `{}`: {why}", name.name);
            build.diags.push(Diagnostic::error("policy.unusable_key", name.span, message).with_help(cure));
            None
        }
    }
}

/// After how many seconds another key signs, if ever.
fn rotate_s(doc: &KeyDoc, build: &mut Build<'_>) -> Option<Option<i64>> {
    let Some(rotate) = &doc.from.value.rotate else { return Some(None) };
    let seconds = i64::try_from(rotate.duration.as_secs()).unwrap_or(i64::MAX);
    if !ROTATE_S.contains(&seconds) {
        let message = "a key signs for 2h to 3650d: it is published an hour before, and a day after";
        return refuse(rotate.span, message, "write `rotate: 90d`", build);
    }
    Some(Some(seconds))
}

fn algorithm(word: &Literal, build: &mut Build<'_>) -> Option<Algorithm> {
    let text = build.context().literal(word)?;
    let known = || Algorithm::ALL.into_iter().filter(|algorithm| algorithm.hmac_bytes().is_none());
    if let Some(algorithm) = known().find(|algorithm| algorithm.word() == text) {
        return Some(algorithm);
    }
    let is_shared = Algorithm::of(&text).is_some_and(|algorithm| algorithm.hmac_bytes().is_some());
    let help = match suggest(&text, known().map(Algorithm::word)) {
        _ if is_shared => {
            "a shared secret is kept in a `secret`: `kind: symmetric` and `from: { secret: NAME }`".to_owned()
        }
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", known().collect::<Algorithms>()),
    };
    let message = format!("`{text}` is no algorithm that a key is made for");
    build.diags.push(Diagnostic::error("policy.bad_key", word.span(), message).with_help(help));
    None
}
