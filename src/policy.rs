//! From files to a snapshot: read → parse → check → compile.
//!
//! The whole file set is one unit: any error anywhere means no new snapshot, and all errors are reported
//! at once.

pub mod assertion;
pub mod build;
pub mod document;
mod elsewhere;
pub mod files;
mod parallel;
mod published;
pub mod resources;
pub mod reuse;
pub mod service;
mod stand_in_keys;
pub mod testing;
