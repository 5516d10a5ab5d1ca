//! Putting the documents of all files together: a name of a kind is there only once.

use super::Documents;
use crate::engine::value::with_article;
use crate::source::{Diagnostic, Diagnostics};

impl Documents {
    /// Takes the documents of another file in. A name that is there already is reported at the second place,
    /// and the first document stays.
    pub fn absorb(&mut self, other: &Documents, diags: &mut Diagnostics) {
        for (key, span) in &other.names.0 {
            if let Some(first) = self.names.0.get(key) {
                let message = format!("there is already {} called `{}`", with_article(&key.0), key.1);
                let diagnostic = Diagnostic::error("policy.duplicate_name", *span, message)
                    .with_note(*first, "the first one stands here")
                    .with_help("rename or remove one of them");
                diags.push(diagnostic);
            } else {
                self.names.0.insert(key.clone(), *span);
            }
        }
        let Documents { services, fragments, defaults, assertions, tests, resources, .. } = other;
        for (name, doc) in services {
            self.services.entry(name.clone()).or_insert_with(|| doc.clone());
        }
        for (name, doc) in fragments {
            self.fragments.entry(name.clone()).or_insert_with(|| doc.clone());
        }
        for (name, doc) in defaults {
            self.defaults.entry(name.clone()).or_insert_with(|| doc.clone());
        }
        for (name, doc) in assertions {
            self.assertions.entry(name.clone()).or_insert_with(|| doc.clone());
        }
        self.tests.extend(tests.iter().cloned());
        self.resources.extend(resources.iter().cloned());
        self.broken_services.extend(other.broken_services.iter().cloned());
        self.broken_assertions.extend(other.broken_assertions.iter().cloned());
        self.is_mangled |= other.is_mangled;
    }
}
