//! The tests that need more than one module, or more than one process.

mod node_contract;
mod support;
