//! The catalogue of built-in assertions: one file and two lines each, both lists sorted.

pub use self::scrub::HouseRules;
use crate::compile::Kind;

mod all;
mod any;
mod audit;
mod authenticate_api_key;
mod authenticate_basic;
mod authenticate_jwt;
mod authenticate_mtls;
mod authorize;
mod call_http;
mod compare;
mod compress;
mod count_metric;
mod decode;
mod decompress;
mod encode;
mod evaluate_json_path;
mod for_each;
mod generate_security_hash;
mod r#if;
mod include;
mod inject_oauth_token;
mod issue_jwt;
mod limit_concurrency;
mod limit_rate;
mod limit_size;
mod log;
mod match_regex;
mod parallel;
mod protect_json;
mod raise;
mod redirect;
mod remove_headers;
mod respond;
mod restrict_ip;
mod rewrite;
mod route;
mod script;
mod scrub;
mod set;
mod set_body;
mod set_headers;
mod stop;
mod switch;
#[cfg(test)]
pub(crate) mod trial;
mod r#try;
mod verify_security_hash;

/// Every built-in assertion.
pub static CATALOGUE: &[&Kind] = &[
    &all::KIND,
    &any::KIND,
    &audit::KIND,
    &authenticate_api_key::KIND,
    &authenticate_basic::KIND,
    &authenticate_jwt::KIND,
    &authenticate_mtls::KIND,
    &authorize::KIND,
    &call_http::KIND,
    &compare::KIND,
    &compress::KIND,
    &count_metric::KIND,
    &decode::KIND,
    &decompress::KIND,
    &encode::KIND,
    &evaluate_json_path::KIND,
    &for_each::KIND,
    &generate_security_hash::KIND,
    &r#if::KIND,
    &include::KIND,
    &inject_oauth_token::KIND,
    &issue_jwt::KIND,
    &limit_concurrency::KIND,
    &limit_rate::KIND,
    &limit_size::KIND,
    &log::KIND,
    &match_regex::KIND,
    &parallel::KIND,
    &protect_json::KIND,
    &raise::KIND,
    &redirect::KIND,
    &remove_headers::KIND,
    &respond::KIND,
    &restrict_ip::KIND,
    &rewrite::KIND,
    &route::KIND,
    &script::KIND,
    &scrub::KIND,
    &set::KIND,
    &set_body::KIND,
    &set_headers::KIND,
    &stop::KIND,
    &switch::KIND,
    &r#try::KIND,
    &verify_security_hash::KIND,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::build::{Environment, compile, parse_files};
    use crate::policy::files::Files;
    use crate::policy::testing::{Options, collect, render, run};
    use crate::source::{Diagnostics, render as render_diagnostics};

    #[test]
    fn the_catalogue_is_sorted_and_its_codes_begin_with_the_name() {
        assert!(CATALOGUE.windows(2).all(|pair| pair[0].name < pair[1].name));
        for kind in CATALOGUE {
            for fault in kind.faults {
                let reason = fault.code.strip_prefix(kind.name).and_then(|rest| rest.strip_prefix('.'));
                assert!(reason.is_some_and(|reason| !reason.is_empty()), "{}: {}", kind.name, fault.code);
            }
        }
    }

    #[test]
    fn every_example_loads_cleanly_and_passes_its_tests() {
        let environment = Environment { listeners: vec!["main".into()], ..Environment::default() };
        let mut failures = String::new();
        for kind in CATALOGUE {
            assert!(!kind.examples.is_empty(), "{} has no example", kind.name);
            for example in kind.examples {
                let title = format!("{}: {}", kind.name, example.title);
                let mut diags = Diagnostics::new();
                let parsed = parse_files(&Files::of_text(&title, example.yaml), &mut diags);
                let cases = collect(&parsed, &mut diags);
                // Secrets of an example stand in `given`, not in an environment: it is compiled as a case sees it.
                let given = cases.first().map(|case| case.given());
                compile(&parsed, &environment, given, None, &mut diags);
                if !diags.is_empty() {
                    failures.push_str(&render_diagnostics(&parsed.sources, &diags, false));
                    continue;
                }
                let report = run(&parsed, &environment, &cases, &Options::default()).unwrap();
                if cases.is_empty() {
                    failures.push_str(&format!("{title}: no case\n"));
                } else if !report.is_good() {
                    failures.push_str(&render(&report, &parsed.sources, false));
                }
            }
        }
        assert!(failures.is_empty(), "{failures}");
    }
}
