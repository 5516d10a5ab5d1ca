//! The engine: what a compiled policy is and how a request walks through it.
//!
//! The engine never names an assertion and knows no YAML; it runs programs of steps over an exchange:
//! read → select → run → answer → record. `docs/architecture.md` follows a request through these files.

pub mod document;
pub mod exchange;
pub mod journal;
pub mod media;
pub mod message;
pub mod parallel;
pub mod program;
pub mod random;
pub mod read;
pub mod reader;
pub mod recode;
pub mod run;
pub mod scrubbing;
pub mod seal;
pub mod select;
pub mod serve;
pub mod snapshot;
pub mod span;
pub mod state;
pub mod trace;
pub mod value;
pub mod walk;
pub mod watch;
pub mod worker;
