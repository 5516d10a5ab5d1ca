//! The `gatewright` binary; its commands come with the process.

fn main() {}
