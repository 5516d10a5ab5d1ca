//! The faults of `authenticate_jwt`.

use crate::compile::FaultDoc;

pub(super) const FAULTS: &[FaultDoc] = &[
    FaultDoc { code: "authenticate_jwt.missing", status: 401, doc: "No token came where `from` looks." },
    FaultDoc {
        code: "authenticate_jwt.malformed",
        status: 401,
        doc: "Not a signed token in compact form: broken base64url or JSON, a name twice, `crit`, an encrypted token, too long.",
    },
    FaultDoc {
        code: "authenticate_jwt.algorithm",
        status: 401,
        doc: "Signed with an algorithm that is not allowed, or that the key does not go with.",
    },
    FaultDoc { code: "authenticate_jwt.unknown_key", status: 401, doc: "The provider has no key of that `kid`." },
    FaultDoc { code: "authenticate_jwt.signature", status: 401, doc: "The signature is not that of the key." },
    FaultDoc { code: "authenticate_jwt.expired", status: 401, doc: "Past its `exp`, or older than `max_age`." },
    FaultDoc { code: "authenticate_jwt.not_yet_valid", status: 401, doc: "Before its `nbf`." },
    FaultDoc { code: "authenticate_jwt.issuer", status: 401, doc: "`iss` is another, or missing." },
    FaultDoc { code: "authenticate_jwt.audience", status: 401, doc: "`aud` does not name us, or is missing." },
    FaultDoc {
        code: "authenticate_jwt.claim",
        status: 401,
        doc: "A claim is missing, has a wrong type, or is not what `claims` asks for.",
    },
    FaultDoc { code: "authenticate_jwt.type", status: 401, doc: "`typ` is not what `type` asks for." },
    FaultDoc {
        code: "authenticate_jwt.binding",
        status: 401,
        doc: "The token is bound to a certificate or key of its caller (`cnf`) that the client has not shown, or `bound: mtls` and it is bound to none.",
    },
    FaultDoc {
        code: "authenticate_jwt.ambiguous",
        status: 400,
        doc: "The token came twice, or is longer than 16 KiB.",
    },
    FaultDoc {
        code: "authenticate_jwt.keys_unavailable",
        status: 503,
        doc: "The provider's keys were never to be had, or its URL fails and the token names a key that is not known.",
    },
    FaultDoc {
        code: "authenticate_jwt.absent",
        status: 400,
        doc: "A text of `audience` is absent. By origin of the value: 400, 502 or 500.",
    },
];
