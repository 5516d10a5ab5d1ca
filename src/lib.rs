//! Gatewright: a policy-driven API gateway.
//!
//! The rooms, in the direction in which they depend on each other, are listed in `docs/architecture.md`.

pub mod admin;
pub mod assertions;
pub mod audit;
pub mod body;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod coding;
pub mod compile;
pub mod config;
pub mod digest;
pub mod encoding;
pub mod engine;
pub mod explain;
pub mod expr;
pub mod fault;
pub mod gateway;
pub mod identity;
pub mod jose;
pub mod json;
pub mod json_path;
pub mod limits;
pub mod own_file;
pub mod pan;
pub mod path;
pub mod policy;
pub mod process;
pub mod regular_file;
pub mod reload;
pub mod scrub;
pub mod secret;
pub mod server;
pub mod source;
pub mod store;
pub mod tls;
pub mod upstream;
