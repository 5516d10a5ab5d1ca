//! Codes of mistakes in expressions and `${...}` templates.

use super::{Page, page};

pub(super) const PAGES: &[Page] = &[
    page(
        "expr.syntax",
        "The expression cannot be read.",
        "Mend what is underlined.",
        "when: request.method == \"GET\" && path.id > 7",
    ),
    page(
        "expr.empty",
        "There is nothing between `${` and `}`, or no expression at all.",
        "Name a variable. A literal `${` is written `$${`.",
        "\"${request.id}\"",
    ),
    page("expr.unclosed", "A `${` has no `}`.", "Close it. A literal `${` is written `$${`.", "\"${request.id}\""),
    page(
        "expr.bad_text",
        "A text in the expression is not closed, or holds an unknown escape.",
        "Close the quote on its line; a backslash is written `\\\\`.",
        "when: request.path == '/a'",
    ),
    page(
        "expr.bad_number",
        "This is no number, or one that is too large.",
        "Write digits, perhaps with a point.",
        "when: response.status >= 500",
    ),
    page(
        "expr.too_long",
        "The expression or template is longer than is taken.",
        "Put words into a `list`, or split it over several steps.",
        "",
    ),
    page("expr.too_deep", "The expression is nested too deep.", "Split it: `set` a variable and use it.", ""),
    page(
        "expr.unsupported",
        "The language knows this, and expressions here do not take it.",
        "Follow the help beside the underline.",
        "",
    ),
    page(
        "expr.unknown_variable",
        "No variable has this name here.",
        "See the variables in docs/variables.md; a step's outputs stand under its `as` or its own name.",
        "\"${request.client.ip}\"",
    ),
    page(
        "expr.unknown_function",
        "No function has this name.",
        "The help names what there is.",
        "when: lower(request.method) == 'get'",
    ),
    page("expr.wrong_arguments", "The function takes other arguments.", "The help says which.", ""),
    page("expr.no_member", "The value has no such member.", "The help says what it has.", ""),
    page(
        "expr.type_mismatch",
        "Values of different types are compared or computed with; that would never hold.",
        "Convert one of them. Path and query parameters are texts.",
        "when: path.id == '7'",
    ),
    page(
        "expr.not_bool",
        "A condition is needed and this is none.",
        "Compare it with something, or ask whether it `exists`.",
        "when: exists(request.headers.x_debug)",
    ),
    page(
        "expr.not_bare",
        "Here stands an expression, and it was written as a text with `${}`.",
        "Leave out `${` and `}`.",
        "when: request.method == \"GET\"",
    ),
    page(
        "expr.may_be_absent",
        "The value may be absent at run time, and then the expression would mean nothing.",
        "Say what holds without it.",
        "\"${request.query.page ?? '1'}\"",
    ),
    page(
        "expr.never_works",
        "This can be computed at load, and it always fails.",
        "Mend it: the code beside it says how it fails.",
        "",
    ),
    page(
        "expr.marked_order",
        "The order of a secret or token would tell more of it with every guess.",
        "Compare with `==`, `!=` or `in`.",
        "",
    ),
    page("expr.duplicate_key", "A key stands twice in one map.", "Remove one of them.", ""),
    page(
        "expr.bad_regex",
        "The regular expression cannot be read.",
        "Mend it; a backslash is written `\\\\` in a text.",
        "when: matches(request.path, '^/v[0-9]+/')",
    ),
    page(
        "expr.bad_network",
        "This text is no address or network.",
        "Write an address, or a network with its length.",
        "when: in_cidr(request.client.ip, '10.0.0.0/8')",
    ),
    page(
        "expr.statements",
        "An expression is one value, and here are statements.",
        "Put them into braces, or into a `script` step.",
        "when: \"{ let parts = split(request.path, '/'); len(parts) > 2 }\"",
    ),
    page(
        "expr.shadows",
        "A local has the name of a variable of the policy and would hide it.",
        "Give the local another name.",
        "",
    ),
    page(
        "expr.stray_closure",
        "A closure stands somewhere else than in the call of a list method.",
        "Write it where it is used, or make a function: `fn name(x) { ... }`.",
        "when: \"auth.groups.some(|g| starts_with(g, 'admin-'))\"",
    ),
    page(
        "expr.read_only",
        "An expression or script changes a variable of the policy.",
        "Scripts only read them: set a result with `out.NAME = value`, change messages with steps.",
        "",
    ),
    page(
        "expr.unknown_result",
        "A script sets a result that `sets` does not declare.",
        "Declare it beside the code.",
        "- script: { code: \"out.total = 1;\", sets: { total: int } }",
    ),
    page(
        "expr.marked_text",
        "A secret may flow into what a script denies or fails with.",
        "Write literal texts there.",
        "",
    ),
];
