//! Codes of what `gatewright test` and `check` say about policy tests.

use super::{Page, page};

pub(super) const PAGES: &[Page] = &[
    page(
        "test.untested",
        "No policy test brings a step to one of its outcomes: past it, to a denial, or into a block.",
        "Add a case that does; `gatewright test --coverage` names all that are missing.",
        "expect: { status: 403, fault: authorize.group }",
    ),
    page(
        "test.survivor",
        "A step was removed or a condition turned round, and every policy test still passed.",
        "Add a case that depends on it: one that is denied by the step, or that expects what the step sets or sends.",
        "expect: { status: 200, upstream: [{ headers: { x-tenant: acme } }] }",
    ),
    page(
        "test.unknown_fault",
        "A policy test expects a fault that no step which can take part raises.",
        "Correct the code; a run of the case shows the one that comes. `fault: none` expects that there is none.",
        "expect: { status: 403, fault: authorize.group }",
    ),
    page(
        "test.bad_path",
        "A policy test expects a value at a JSONPath that is none (RFC 9535).",
        "Begin it at `$`; in a list of its own each name stands behind a dot or in brackets.",
        "expect: { json_path: { \"$.items[0].id\": 7 } }",
    ),
    page(
        "test.bad_sequence",
        "Exchanges of a policy test cannot be sent like this: never, together with nothing, or with an unclear capture.",
        "Mend `repeat` or `together`; the message says which.",
        "- { request: again, together: true, expect: { status: 429 } }",
    ),
    page(
        "test.duplicate_name",
        "Two policy tests of one service or assertion have the same name: a report could not tell which one failed.",
        "Give each a name that says what it shows.",
        "- { name: a stranger is refused, request: { path: /orders/7 }, expect: { status: 401 } }",
    ),
    page(
        "policy.access_untested",
        "A service checks who may call it, and no policy test shows that it refuses anybody.",
        "Add a case whose request must be refused.",
        "- { name: nobody, request: { path: /orders/7 }, expect: { status: 401, upstream: none } }",
    ),
];
