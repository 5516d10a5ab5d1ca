//! The faults of `call_http`.

use crate::compile::FaultDoc;

pub(super) const FAULTS: &[FaultDoc] = &[
    FaultDoc {
        code: "call_http.connect",
        status: 502,
        doc: "No connection to the called service. The record's `detail` has the cause.",
    },
    FaultDoc { code: "call_http.dns", status: 502, doc: "The name of the called service has no address." },
    FaultDoc {
        code: "call_http.tls",
        status: 502,
        doc: "TLS with the called service failed: its certificate, or what was offered.",
    },
    FaultDoc {
        code: "call_http.bad_answer",
        status: 502,
        doc: "The answer was malformed, too large in its head, or broken off.",
    },
    FaultDoc { code: "call_http.unsuccessful", status: 502, doc: "The answer did not meet `success_when`." },
    FaultDoc { code: "call_http.answer_too_large", status: 502, doc: "The answer's body is larger than `max_answer`." },
    FaultDoc {
        code: "call_http.timeout_connect",
        status: 504,
        doc: "The connection took longer than `timeouts: connect`.",
    },
    FaultDoc {
        code: "call_http.timeout_first_byte",
        status: 504,
        doc: "The answer's head took longer than `timeouts: first_byte`.",
    },
    FaultDoc {
        code: "call_http.timeout_total",
        status: 504,
        doc: "The call with its retries and its answer's body took longer than `timeouts: total`, or `idle`.",
    },
    FaultDoc {
        code: "call_http.no_target",
        status: 503,
        doc: "All targets of the upstream are ejected after failures, or its health checks fail.",
    },
    FaultDoc {
        code: "call_http.busy",
        status: 503,
        doc: "All connections that the upstream's `pool: max` allows stayed in use, or too many calls wait for one.",
    },
    FaultDoc {
        code: "call_http.bad_host",
        status: 400,
        doc: "A host that a variable chose is not in `allowed_hosts`, or its address is private. By origin: 400, 502 or 500.",
    },
    FaultDoc {
        code: "call_http.bad_path",
        status: 400,
        doc: "A variable put a `.` or `..` segment or a control character into the path. By origin: 400, 502 or 500.",
    },
    FaultDoc {
        code: "call_http.bad_value",
        status: 400,
        doc: "A header value holds a control character, or the body a value that its form cannot hold. By origin: 400, 502 or 500.",
    },
    FaultDoc {
        code: "call_http.absent",
        status: 400,
        doc: "A parameter's one `${}` is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
    },
];
