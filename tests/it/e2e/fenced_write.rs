//! What a fencing token is for: the example that the README names, run.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Gateway;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fenced_write.py");

/// What the example says of itself at its end.
fn run(example: &Path) -> Value {
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let output = Command::new("python3").arg(example).arg(format!("http://{}", gateway.address())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_holder_that_slept_through_its_lease_writes_nothing() {
    let said = run(Path::new(EXAMPLE));
    println!("fenced resource: {} stale writes tried, {} accepted", said["stale_writes_tried"], said["stale_writes_accepted"]);
    assert_eq!(said, json!({ "stale_writes_tried": 3, "stale_writes_accepted": 0, "document": "written by quick" }));
}

/// Or the test above could not fail.
#[test]
fn a_resource_that_does_not_look_at_tokens_is_overwritten() {
    let source = std::fs::read_to_string(EXAMPLE).unwrap();
    let careless = source.replace("WHERE fence <= ?", "WHERE 0 < ?");
    assert_ne!(source, careless);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("careless.py");
    std::fs::write(&path, careless).unwrap();
    assert_eq!(run(&path), json!({ "stale_writes_tried": 3, "stale_writes_accepted": 3, "document": "written by slow" }));
}
