//! The page of a code: what it means, what to do, and what right looks like.
//!
//! Faults of assertions are declared by the assertions themselves; here stand the codes of the trunk and
//! those of mistakes in files. A test finds every code in the sources and demands its page.

mod config;
mod expr;
mod faults;
mod policy;
mod secrets;
mod testing;
mod tokens;
mod trace;
mod yaml;

use std::fmt;

use crate::assertions::CATALOGUE;

/// What is known of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub code: &'static str,
    pub meaning: &'static str,
    pub cure: &'static str,
    /// What right looks like; may be empty.
    pub example: &'static str,
    /// Status of the answer, for faults.
    pub status: Option<u16>,
    /// The assertion that raises it, if one does.
    pub assertion: Option<&'static str>,
}

const fn page(code: &'static str, meaning: &'static str, cure: &'static str, example: &'static str) -> Page {
    Page { code, meaning, cure, example, status: None, assertion: None }
}

const fn fault(status: u16, code: &'static str, meaning: &'static str, cure: &'static str) -> Page {
    Page { code, meaning, cure, example: "", status: Some(status), assertion: None }
}

/// Every page, in no particular order.
pub fn pages() -> impl Iterator<Item = Page> {
    let trunk = [
        yaml::PAGES,
        policy::PAGES,
        secrets::PAGES,
        expr::PAGES,
        config::PAGES,
        faults::PAGES,
        testing::PAGES,
        tokens::PAGES,
        trace::PAGES,
    ];
    let of_assertions = CATALOGUE.iter().flat_map(|kind| {
        kind.faults.iter().map(|doc| Page {
            code: doc.code,
            meaning: doc.doc,
            cure: "",
            example: "",
            status: Some(doc.status),
            assertion: Some(kind.name),
        })
    });
    trunk.into_iter().flatten().copied().chain(of_assertions)
}

impl fmt::Display for Page {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.assertion) {
            (Some(status), Some(assertion)) => writeln!(out, "{}: fault of `{assertion}`, status {status}", self.code)?,
            (Some(status), None) => writeln!(out, "{}: fault, status {status}", self.code)?,
            _ => writeln!(out, "{}: mistake in a file", self.code)?,
        }
        writeln!(out, "\n{}", self.meaning)?;
        if !self.cure.is_empty() {
            writeln!(out, "\nWhat to do: {}", self.cure)?;
        }
        if !self.example.is_empty() {
            writeln!(out, "\nExample:\n")?;
            self.example.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
