//! Services that check who may call them and whose tests never show it: a warning of `gatewright check`.
//!
//! Nothing is run: what counts is what the cases expect.

use crate::assertions::CATALOGUE;
use crate::compile::Category;
use crate::engine::program::StepMeta;
use crate::engine::snapshot::Snapshot;
use crate::policy::testing::case::Case;
use crate::policy::testing::expect::{Expect, Single, StepWord};
use crate::source::{Diagnostic, Diagnostics};

/// Statuses with which callers are refused.
const REFUSALS: [u64; 2] = [401, 403];

/// Warns of each service whose Access steps no case expects to deny.
pub fn check_access(snapshot: &Snapshot, cases: &[Case], diags: &mut Diagnostics) {
    for service in &snapshot.services {
        let Some(name) = &service.name else { continue };
        let steps: Vec<&StepMeta> = service.steps.iter().filter(|step| is_access(step)).collect();
        let Some(first) = steps.first() else { continue };
        let mut own = cases.iter().filter(|case| case.suite == *name).flat_map(|case| &case.exchanges);
        if own.any(|exchange| expects_denial(&exchange.expect, &steps)) {
            continue;
        }
        let message = format!("no test of `{name}` shows that `{}` denies anybody", first.name);
        let help = "add a case that must be refused: `expect: { status: 401, upstream: none }`";
        diags.push(Diagnostic::warning("policy.access_untested", first.span, message).with_help(help));
    }
}

fn is_access(step: &StepMeta) -> bool {
    CATALOGUE.iter().any(|kind| *kind.name == *step.assertion && kind.category == Category::Access)
}

fn expects_denial(expect: &Expect, steps: &[&StepMeta]) -> bool {
    let of_step = |code: &str| steps.iter().any(|step| code.split('.').next() == Some(&*step.assertion));
    let single = expect.single.iter().any(|(single, want)| match single {
        Single::Status => {
            want.plain().and_then(|status| status.as_u64()).is_some_and(|status| REFUSALS.contains(&status))
        }
        Single::Fault => want.word().is_some_and(of_step),
        _ => false,
    });
    let is_called = |name: &str| steps.iter().any(|step| [&*step.name, &*step.assertion, &*step.path].contains(&name));
    single || expect.steps.iter().any(|(word, name)| *word == StepWord::Denied && is_called(&name.name))
}
