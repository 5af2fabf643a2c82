//! Where a roster comes from, and how a change of it is noticed.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use prometheus::IntGauge;
use tracing::{error, info};

use super::{Guard, Roster, RosterError};
use crate::followed::{self, FileError, FollowedFiles};

/// Where the roster is.
#[derive(Clone)]
pub enum RosterSource {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// In a setting.
    Text(String),
}

/// Why there is no roster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Unreadable(#[from] FileError),
    #[error("{path}: {error}", path = path.display())]
    InFile { path: PathBuf, error: RosterError },
    #[error("{0}")]
    InText(RosterError),
}

impl RosterSource {
    pub fn read(&self) -> Result<Roster, SourceError> {
        match self {
            Self::File(path) => parse(path, &followed::read(path)?),
            Self::Text(text) => Roster::parse(text).map_err(SourceError::InText),
        }
    }

    /// Puts every change of the file in force, for ever. A file that became unreadable changes nothing but the log and `stale`.
    pub async fn follow(self, guard: Guard, stale: IntGauge) {
        let Self::File(path) = self else { return };
        let mut file = FollowedFiles::new([path.clone()]);
        loop {
            let contents = file.next().await;
            let roster = contents.map_err(SourceError::from).and_then(|text| parse(&path, &text.concat()));
            stale.set(roster.is_err().into());
            match roster {
                Ok(roster) => {
                    info!(tokens = roster.tokens(), certificates = roster.certificates(), "the roster {} is in force", path.display());
                    guard.replace(roster);
                }
                Err(error) => error!("the roster stays as it is: {error}"),
            }
        }
    }
}

/// Adds an entry to a roster file, which is made if it is not there; a roster that can't be read stays as it is.
pub fn add_to_file(path: &Path, entry: &str) -> Result<(), SourceError> {
    // What a link points to is changed, and not the link.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let before = if path.exists() { followed::read(path)? } else { String::new() };
    let text = if before.is_empty() { entry.to_owned() } else { format!("{}\n\n{entry}", before.trim_end()) };
    parse(path, &text)?;
    let beside = path.with_added_extension("new");
    replace(path, &beside, &text).map_err(|error| FileError { path: beside, problem: error.to_string() }.into())
}

/// In one step, by a file `beside` it: a gateway that follows it never sees half of it. Whoever could read it still can.
fn replace(path: &Path, beside: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    let written = (|| {
        if let Ok(old) = path.metadata() {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(beside, path)
    })();
    if written.is_err() {
        // What went wrong is told already.
        let _ = std::fs::remove_file(beside);
    }
    written
}

fn parse(path: &Path, text: &str) -> Result<Roster, SourceError> {
    Roster::parse(text).map_err(|error| SourceError::InFile { path: path.to_owned(), error })
}

/// Without the text.
impl fmt::Debug for RosterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(…)"),
        }
    }
}
