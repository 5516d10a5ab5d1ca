//! Codes of the filters of `gatewright trace`.

use super::{Page, page};

pub(super) const PAGES: &[Page] = &[
    page(
        "trace.unknown_variable",
        "A filter of `gatewright trace` names something that only the steps of one service know, or that belongs to \
         the files. A filter is asked about the requests of all services.",
        "Filter by `request`, `answer`, `fault`, `service` and `auth`; what steps have set stands in the trace itself.",
        "gatewright trace --filter \"service.name == 'orders' && (answer.status ?? 0) >= 500\"",
    ),
    page(
        "trace.body",
        "A filter of `gatewright trace` reads a body. It is asked when the request is over; by then the body has \
         left, and most bodies are never held at all.",
        "Filter by what the request has beside it: method, path, header fields, the caller, the fault.",
        "gatewright trace --filter \"request.path.starts_with('/orders/')\"",
    ),
];
