//! Pages of secrets and keys that would stand, or flow, where everybody reads them.

use super::{Page, page};

pub const PAGES: &[Page] = &[
    page(
        "policy.secret_in_body",
        "A body with a secret in it would go to somebody who is not named.",
        "Name the https origin that it goes to, written out; with an upstream all of its targets.",
        "secrets_to: https://login.example.com",
    ),
    page(
        "policy.secret_missing",
        "The secret's source gives nothing.",
        "Set the variable, or create the file.",
        "secret: signing\nfrom: { env: SIGNING_KEY }",
    ),
    page(
        "policy.secret_in_clear",
        "A secret stands in the file, where everybody reads it.",
        "Take it from the environment or from a file.",
        "secret: signing\nfrom: { file: /run/secrets/signing }",
    ),
    page(
        "policy.secret_leak",
        "A secret would flow to a client, into a record, a log or a URL, also one that a step has put into a message before.",
        "Secrets go into keys, credentials, fields for the upstream, and into bodies for origins in `secrets_to`.",
        "",
    ),
    page(
        "policy.detail_leak",
        "The detail of a fault would reach a client; it may name what is inside.",
        "Answer with `fault.code` or `fault.text`, and put the detail into a record.",
        "on_fault: [respond: { json: { error: \"${fault.code}\" } }]",
    ),
    page("policy.key_in_clear", "A key stands in the file in clear.", "Use a `secret`.", "key: { secret: signing }"),
    page(
        "policy.password_in_clear",
        "A password stands in the file in clear.",
        "Store its hash: `gatewright secret hash` makes one.",
        "",
    ),
];
