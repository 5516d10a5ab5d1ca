//! Numbers that tests expect and nothing counts: `absent` of a number that is misspelt could never fail, and any other
//! expectation of it could never be met.
//!
//! Nothing is run: what counts is what the program has and what the steps of the files name.

use std::collections::BTreeSet;

use crate::policy::build::Parsed;
use crate::policy::document::Documents;
use crate::policy::testing::case::Case;
use crate::policy::testing::expect::WantMetric;
use crate::source::{Diagnostic, Diagnostics, Node, NodeValue, suggest};

/// What all names begin with.
const PREFIX: &str = "gatewright_";
/// What those of `count_metric` go on with.
const CUSTOM: &str = "custom_";
/// What the program counts, histograms apart.
const NUMBERS: [&str; 28] = [
    "body_bytes_total",
    "build_info",
    "certificate_not_after_seconds",
    "certificate_swaps_total",
    "certificates_refused",
    "connections",
    "faults_total",
    "in_flight",
    "key_fetches_total",
    "key_sets_stale",
    "metric_errors",
    "oauth_refreshes_total",
    "oauth_sessions_unusable",
    "otlp_exports_total",
    "otlp_spans_dropped_total",
    "outcomes_total",
    "own_key_exchanges_total",
    "records_lost_total",
    "reload_failing",
    "reloads_total",
    "requests_total",
    "serving_last_good",
    "snapshot_info",
    "snapshot_loaded_seconds",
    "tunnels",
    "upstream_targets",
    "worker_restarts_total",
    "workers",
];
/// What it counts by size.
const HISTOGRAMS: [&str; 1] = ["request_duration_seconds"];
/// What the series of a histogram end in.
const OF_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Refuses each expected number that nothing counts.
pub(super) fn check_metrics(parsed: &Parsed, cases: &[Case], diags: &mut Diagnostics) {
    let exchanges = cases.iter().flat_map(|case| &case.exchanges);
    let wanted: Vec<&WantMetric> = exchanges.flat_map(|exchange| &exchange.expect.metrics).collect();
    if wanted.is_empty() {
        return;
    }
    // A step that could not be read may count anything.
    let counted = if is_whole(&parsed.documents) { counted(&parsed.documents) } else { None };
    let is_unsure =
        |name: &str| counted.is_none() && name.strip_prefix(PREFIX).is_some_and(|name| name.starts_with(CUSTOM));
    let own = NUMBERS.iter().map(|name| format!("{PREFIX}{name}"));
    let histograms = HISTOGRAMS.iter().flat_map(|name| OF_HISTOGRAM.map(|end| format!("{PREFIX}{name}{end}")));
    let mut known: BTreeSet<String> = own.chain(histograms).collect();
    for name in counted.iter().flatten() {
        // Steps may count it as a histogram or otherwise.
        known.extend(OF_HISTOGRAM.iter().chain([&""]).map(|end| format!("{PREFIX}{CUSTOM}{name}{end}")));
    }
    for metric in wanted {
        let name = &metric.name.name;
        if known.contains(name) || is_unsure(name) {
            continue;
        }
        let message = format!("nothing counts `{name}`");
        let is_histogram = || name.strip_prefix(PREFIX).is_some_and(|name| HISTOGRAMS.contains(&name));
        let help = match suggest(name, known.iter().map(String::as_str)) {
            _ if is_histogram() => format!("it is a histogram: write `{name}_count`"),
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "write a name of `/metrics`; what `count_metric: orders` counts is `gatewright_custom_orders`".into()
            }
        };
        diags.push(Diagnostic::error("policy.unknown_name", metric.name.span, message).with_help(help));
    }
}

/// Whether every step that was written could be read.
fn is_whole(documents: &Documents) -> bool {
    let broken = documents.broken_services.is_empty() && documents.broken_assertions.is_empty();
    broken && !documents.is_mangled && !documents.services.values().any(|service| service.is_mangled)
}

/// The names that `count_metric` steps give; `None` where one of them is not known before it serves.
fn counted(documents: &Documents) -> Option<BTreeSet<String>> {
    let services = documents.services.values();
    let services = services.flat_map(|doc| [Some(&doc.policy), doc.on_fault.as_ref(), doc.finally.as_ref()]);
    let defaults = documents.defaults.values();
    let defaults = defaults.flat_map(|doc| [doc.before.as_ref(), doc.on_fault.as_ref(), doc.finally.as_ref()]);
    let fragments = documents.fragments.values().map(|fragment| &fragment.steps);
    let assertions = documents.assertions.values().map(|doc| &doc.policy);
    let mut names = BTreeSet::new();
    for node in services.chain(defaults).flatten().chain(fragments).chain(assertions) {
        collect(node, &mut names)?;
    }
    Some(names)
}

fn collect(node: &Node, names: &mut BTreeSet<String>) -> Option<()> {
    match node.value() {
        NodeValue::List(items) => items.iter().try_for_each(|item| collect(item, names)),
        NodeValue::Map(entries) => entries.iter().try_for_each(|entry| {
            if entry.key == "count_metric" {
                let name = entry.value.get("name").unwrap_or(&entry.value).as_text().unwrap_or_default();
                names.insert((!name.contains("${")).then(|| name.to_owned())?);
            }
            collect(&entry.value, names)
        }),
        NodeValue::Null | NodeValue::Scalar(_) => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let page = include_str!("../../../docs/records.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `gatewright_")?.split_once("` | "));
        let of = |wanted: &str| -> BTreeSet<String> {
            let rows = rows.clone().filter(|(name, _)| *name != "custom_NAME");
            let rows = rows.filter(|(_, rest)| rest.starts_with("histogram") == (wanted == "histogram"));
            rows.map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(of("number"), NUMBERS.map(str::to_owned).into());
        assert_eq!(of("histogram"), HISTOGRAMS.map(str::to_owned).into());
    }
}
