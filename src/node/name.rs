//! What a node is called.

use std::fmt;
use std::sync::Arc;

/// The name of a node in the configuration, in metrics and in its own marker.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeName(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a node name; a name is 1 to 80 of A-Z a-z 0-9 . _ : / -")]
pub struct NodeNameError(String);

impl NodeName {
    pub fn new(text: &str) -> Result<Self, NodeNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/-[]".contains(c);
        if (1..=80).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(NodeNameError(text.chars().take(100).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
