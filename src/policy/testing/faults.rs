//! Codes that tests expect and nothing raises: a test of a code that is misspelt could never pass, and a
//! `not:` of one could never fail.
//!
//! Nothing is run: what counts is what the steps of the services say that they raise.

use std::collections::BTreeSet;

use crate::assertions::CATALOGUE;
use crate::engine::program::StepMeta;
use crate::engine::snapshot::{Service, Snapshot};
use crate::explain::pages;
use crate::policy::testing::case::Case;
use crate::policy::testing::expect::Single;
use crate::source::{Diagnostic, Diagnostics, suggest};

/// What the last word of a code may be for every assertion, whatever its documentation lists: a parameter was absent,
/// an input or output of an operator's own was wrong.
const OF_ANY: [&str; 3] = ["absent", "input", "output"];

/// Warns of each expected fault that no step can raise.
pub fn check_faults(snapshot: &Snapshot, cases: &[Case], diags: &mut Diagnostics) {
    let trunk: Vec<&str> =
        pages().filter(|page| page.status.is_some() && page.assertion.is_none()).map(|page| page.code).collect();
    for case in cases.iter().filter(|case| case.inputs.is_none()) {
        let own: Vec<&Service> = snapshot
            .services
            .iter()
            .map(AsRef::as_ref)
            .filter(|service| service.name.as_ref() == Some(&case.suite))
            .collect();
        for exchange in &case.exchanges {
            let of = |wanted| exchange.expect.single.iter().find(|(single, _)| *single == wanted).map(|(_, want)| want);
            let Some((code, span)) = of(Single::Fault).and_then(|want| Some((want.word()?, want.span))) else {
                continue;
            };
            // Another service may answer where the case says so, or sends several requests.
            let all = case.exchanges.len() > 1 || of(Single::Service).is_some();
            let everybody = || snapshot.services.iter().map(AsRef::as_ref).chain([&*snapshot.unmatched]);
            let services: Vec<&Service> = if all { everybody().collect() } else { own.clone() };
            let steps = || services.iter().flat_map(|service| &service.steps);
            if code == "none" || trunk.contains(&code) || steps().any(|step| can_raise(step, code)) {
                continue;
            }
            let known: BTreeSet<&str> = steps().flat_map(codes).chain(trunk.iter().copied()).collect();
            let message = format!("no step of `{}` raises `{code}`", case.suite);
            let help = match suggest(code, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match code.split_once('.').map(|(first, _)| first) {
                    Some(first) if steps().any(|step| *step.assertion == *first) => {
                        let own = known.iter().filter(|known| known.split('.').next() == Some(first));
                        format!("`{first}` raises {}", own.copied().collect::<Vec<_>>().join(", "))
                    }
                    _ => "write the code that a run of this case shows, or `fault: none`".to_owned(),
                },
            };
            diags.push(Diagnostic::warning("test.unknown_fault", span, message).with_help(help));
        }
    }
}

fn can_raise(step: &StepMeta, code: &str) -> bool {
    let of_any = code.split_once('.').is_some_and(|(first, rest)| *step.assertion == *first && OF_ANY.contains(&rest));
    of_any || codes(step).any(|known| known == code)
}

fn codes(step: &StepMeta) -> impl Iterator<Item = &str> {
    let kind = CATALOGUE.iter().find(|kind| *kind.name == *step.assertion);
    let documented = kind.into_iter().flat_map(|kind| kind.faults).map(|fault| fault.code);
    documented.chain(step.raises.iter().map(|(code, _)| &**code))
}
