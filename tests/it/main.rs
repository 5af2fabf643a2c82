//! The tests that need more than one module, or more than one process.

mod e2e;
mod engine;
mod faults;
mod history;
mod http;
mod load;
mod lua_conformance;
mod model;
mod node_contract;
mod simulation;
mod support;
