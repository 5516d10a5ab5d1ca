//! What is known afterwards: one record per request, and the numbers.
//!
//! Records are JSON lines with a documented schema (`docs/records.md`); marked values never reach this
//! room, they are dropped or hashed before.

pub mod custom;
pub mod feed;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod record;
pub mod ring;
pub mod sink;
pub mod spans;
pub mod trace_context;
