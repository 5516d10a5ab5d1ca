//! Promises over real sockets and real processes, through the public interface only; one binary for all.

// A test and what it is built of end where something is not as it has to be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod all_at_once;
mod authority;
mod blame;
mod bound_tokens;
mod broker;
#[cfg(feature = "otlp")]
mod collector;
mod commands;
mod editors;
mod explained;
mod habits;
mod harness;
mod hostile_scripts;
mod http2;
mod jwks;
mod kept;
mod key_forms;
mod language_server;
mod leftovers;
mod listener_kinds;
mod listeners;
mod log_lines;
mod lost_files;
mod misbehaving;
mod mistakes;
#[cfg(feature = "otlp")] // some of what the pages promise comes with it
mod observability;
#[cfg(feature = "otlp")]
mod otlp;
mod own_keys;
mod passed_sockets;
mod process;
mod readme;
mod real_programs;
mod reload_storm;
mod steps;
mod testing;
mod tidy;
mod tls;
mod trace;
mod upgrades;
mod upstream_faults;
mod upstreams;
