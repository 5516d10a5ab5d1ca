//! Gatewright: a policy-driven API gateway.
//!
//! The rooms, in the direction in which they depend on each other, are listed in `docs/architecture.md`.

