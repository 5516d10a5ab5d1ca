//! Mistakes in what tokens are verified and signed with.

use super::{Page, page};

pub(super) const PAGES: &[Page] = &[
    page(
        "policy.bad_provider",
        "An identity provider cannot be used: its keys cannot be read, or none of them goes with its algorithms.",
        "Give it a JWK Set with public keys for signatures (RSA of 2048 bits or more, P-256, P-384, P-521, Ed25519), or a `key`.",
        "identity_provider: corp\nkind: jwt\nissuer: https://idp.example.com\nkeys: { file: keys/corp.json }\naudience: orders",
    ),
    page(
        "policy.bad_session",
        "A stored session cannot be used: where its tokens come from, or where they may go, is not said as it has to be.",
        "Name the token endpoint, the client, and every origin that may be sent the token.",
        "oauth_session: crm\nkind: oauth2\ngrant: refresh_token\ntoken_url: https://login.example.com/token\n\
         client: { id: gateway, secret: { secret: crm_client } }\nallowed_origins: [\"https://api.example.com\"]",
    ),
    page(
        "policy.origin_refused",
        "A stored token would be sent to an origin that is not among those it is for.",
        "Add the origin to `allowed_origins` of the session, or put the injecting step behind this one.",
        "allowed_origins: [\"https://api.example.com\"]",
    ),
    page(
        "policy.ignored_key",
        "A warning: a key of a set is left out, because it is not for signatures, too weak, or of a kind that is not known.",
        "Take it out of the set, or mend it. Tokens that name it are refused.",
        "",
    ),
    page(
        "policy.unusable_key",
        "A key that the gateway made cannot be used: its file below `state:` is damaged, or others can use it, or none can be written there.",
        "Restore the file, or remove it: then a new key is made, and tokens of the old one count no more. Let only the gateway's user use the folder.",
        "chmod 700 state/signing && chmod 600 state/signing/*",
    ),
    page(
        "policy.published_path",
        "A service's path is one on which a key is published: no request would ever come to the service.",
        "Give the service another path, or the key another `publish`.",
        "key: gateway_signing\nkind: private\nfrom: { generate: ES256, rotate: 90d }\npublish: /.well-known/jwks.json",
    ),
    page(
        "policy.no_audience",
        "Tokens of a provider would be taken whoever they are for: one that was issued for another API could be used here.",
        "Name this API as the provider names it in `aud`, at the provider or at the step.",
        "- authenticate_jwt: { issuer: corp, audience: orders }",
    ),
];
