//! What a step asks of tokens where its provider says something too: audience and algorithms.

use crate::compile::text::TextParam;
use crate::compile::{Compile, Step};
use crate::expr::Place;
use crate::identity::provider::Provider;
use crate::jose::{Algorithm, Algorithms};
use crate::source::{Literal, OneOrMany, Spanned, Text};

/// Whom tokens must be for.
pub(super) enum Audience {
    Provider,
    Own(Vec<TextParam>),
}

/// Whom tokens must be for: what the step says, or else the provider.
pub(super) fn audience(
    own: Option<OneOrMany<Text>>,
    provider: Option<&Provider>,
    step: &Step<'_>,
    cx: &mut Compile<'_>,
) -> Option<Audience> {
    match own {
        Some(texts) if !texts.is_empty() => {
            let texts: Vec<_> = texts.iter().map(|text| cx.text(text, Place::Plain)).collect();
            texts.into_iter().collect::<Option<_>>().map(Audience::Own)
        }
        _ if !provider?.audiences().is_empty() => Some(Audience::Provider),
        _ => {
            // RFC 8725 §3.9: a token for somebody else must not be taken here.
            let message = format!("neither this step nor `{}` says whom tokens must be for", provider?.name());
            let help = "write `audience: NAME`, the name that the provider gives to this API in `aud`";
            cx.refuse("policy.no_audience", step.span, message, help)
        }
    }
}

/// The algorithms that count: the provider's, or those of them that the step names.
pub(super) fn allowed(
    words: Option<&Spanned<OneOrMany<Literal>>>,
    provider: Option<&Provider>,
    cx: &mut Compile<'_>,
) -> Option<Algorithms> {
    let Some(words) = words else { return provider.map(Provider::algorithms) };
    let known = provider.map_or(Algorithms::all(), Provider::algorithms);
    let mut all = Vec::new();
    for literal in &words.value {
        let word = cx.literal(literal)?;
        match Algorithm::of(&word).filter(|algorithm| known.has(*algorithm)) {
            Some(algorithm) => all.push(algorithm),
            None => {
                let whose = provider.map_or_else(|| "tokens".to_owned(), |provider| format!("`{}`", provider.name()));
                let message = format!("`{word}` is none of the algorithms of {whose}");
                let help = format!("a step can only narrow them: {known}");
                return cx.refuse("policy.bad_value", literal.span(), message, &help);
            }
        }
    }
    if all.is_empty() {
        let help = "name an algorithm, or leave `algorithms` out";
        return cx.refuse("policy.empty_list", words.span, "no algorithm is left: nobody could pass", help);
    }
    Some(all.into_iter().collect())
}
