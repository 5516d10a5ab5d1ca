//! Codes of files that are no YAML, or YAML that is refused.

use super::{Page, page};

pub(super) const PAGES: &[Page] = &[
    page(
        "yaml.syntax",
        "The file is no YAML at this place.",
        "Mend the line that is underlined; often it is an indent, or a value with `: ` in it that wants quotes.",
        "path: \"/a: b\"",
    ),
    page("yaml.tab", "A tab stands in an indent.", "Indent with spaces: YAML takes no tabs there.", ""),
    page("yaml.key", "A key of a mapping is no plain text.", "Write the key as a word, or in quotes.", "\"200\": ok"),
    page(
        "yaml.duplicate_key",
        "The same key stands twice in one mapping; one of them would be lost.",
        "Remove one of them, or make a list of their values.",
        "",
    ),
    page(
        "yaml.anchor",
        "Anchors (`&name`) are not taken: what a file says must not depend on another place of it.",
        "Use a `fragment` for steps that are used twice, or `defaults` for steps of all services.",
        "fragment: checks\npolicy:\n  - protect_json",
    ),
    page(
        "yaml.alias",
        "Aliases (`*name`) are not taken.",
        "Use a `fragment` or `defaults`. A text that begins with `*` wants quotes.",
        "host: \"*.example.com\"",
    ),
    page("yaml.merge_key", "Merge keys (`<<`) are not taken.", "Use a `fragment` or `defaults`.", ""),
    page(
        "yaml.tag",
        "Tags (`!name`) are not taken.",
        "Remove the tag. A text that begins with `!` wants quotes.",
        "when: \"!path.draft\"",
    ),
    page("yaml.directive", "Directives (`%YAML`, `%TAG`) are not taken.", "Remove the line: files are YAML 1.2.", ""),
    page(
        "yaml.control_character",
        "A control character stands in the file.",
        "Remove it, or write it as an escape in double quotes.",
        "text: \"a\\u0007\"",
    ),
    page(
        "yaml.depth",
        "Mappings and lists are nested too deep.",
        "Flatten the structure; steps can go into a `fragment`.",
        "",
    ),
    page("yaml.too_many_nodes", "The file holds more values than are taken.", "Split it into several files.", ""),
    page("yaml.too_large", "The file is larger than is taken.", "Split it into several files.", ""),
    page("yaml.not_utf8", "The file is not UTF-8.", "Save it as UTF-8.", ""),
];
