//! What an assertion sees while a policy is compiled: its parameters, the variables of the place, the
//! resources, and how a list of steps becomes a program.
//!
//! Everything is resolved here, so that nothing is looked up by name while a request runs. The room knows
//! no assertion: the catalogue is handed in.

pub mod blocks;
pub mod calling;
pub mod challenge;
pub mod content;
pub mod context;
pub mod counted;
pub mod credential;
pub mod filter;
pub mod flow;
pub mod fragment;
pub mod hashed;
pub mod header;
pub mod identity;
pub mod inject;
pub mod key;
pub mod kind;
pub mod made;
pub mod marks;
pub mod message;
pub mod named;
pub mod octets;
pub mod operator;
pub mod outside;
pub mod parallel;
pub mod pattern;
pub mod resources;
pub mod scope;
pub mod sending;
pub mod status;
pub mod steps;
pub mod target;
pub mod text;
pub mod url;
pub mod writers;

pub use self::context::Compile;
pub use self::kind::{Assertion, Category, Compiled, Example, FaultDoc, Kind, Output};
pub use self::steps::Step;
