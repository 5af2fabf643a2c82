//! Where a roster comes from, and how a change of it is noticed.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

use super::{Guard, Roster, RosterError};

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
    #[error("{path}: {problem}", path = path.display())]
    Unreadable { path: PathBuf, problem: String },
    #[error("{path}: {error}", path = path.display())]
    InFile { path: PathBuf, error: RosterError },
    #[error("{0}")]
    InText(RosterError),
}

/// Room for [`Roster::MAX_TOKENS`] of ordinary length.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How soon a change is in force. A file is looked at rather than watched: that works with every way in which files are
/// replaced, those of Kubernetes included.
const INTERVAL: Duration = Duration::from_secs(1);

impl RosterSource {
    pub fn read(&self) -> Result<Roster, SourceError> {
        match self {
            Self::File(path) => parse(path, &contents(path)?),
            Self::Text(text) => Roster::parse(text).map_err(SourceError::InText),
        }
    }

    /// Puts every change of the file in force, for ever. A file that became unreadable changes nothing but the log and `stale`.
    pub async fn follow(self, guard: Guard, stale: IntGauge) {
        let Self::File(path) = self else { return };
        let (mut seen, mut before) = (None, None);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let of = path.clone();
            // A disk may hang, and a thread that serves requests must not.
            let Ok(now) = tokio::task::spawn_blocking(move || contents(&of)).await else { continue };
            // Twice the same: it is not being written just now.
            let is_settled = before.as_ref() == Some(&now);
            before = Some(now.clone());
            if !is_settled || seen.as_ref() == Some(&now) {
                continue;
            }
            match now.as_ref().map_err(Clone::clone).and_then(|text| parse(&path, text)) {
                Ok(roster) => {
                    info!(tokens = roster.len(), "the tokens of {} are in force", path.display());
                    guard.replace(roster);
                    stale.set(0);
                }
                Err(error) => {
                    error!("the tokens stay as they are: {error}");
                    stale.set(1);
                }
            }
            seen = Some(now);
        }
    }
}

/// Adds an entry to a roster file, which is made if it is not there; a roster that can't be read stays as it is.
pub fn add_to_file(path: &Path, entry: &str) -> Result<(), SourceError> {
    // What a link points to is changed, and not the link.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let before = if path.exists() { contents(path)? } else { String::new() };
    let text = if before.is_empty() { entry.to_owned() } else { format!("{}\n\n{entry}", before.trim_end()) };
    parse(path, &text)?;
    let beside = path.with_added_extension("new");
    replace(path, &beside, &text).map_err(|error| SourceError::Unreadable { path: beside, problem: error.to_string() })
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

fn contents(path: &Path) -> Result<String, SourceError> {
    let unreadable = |problem: String| SourceError::Unreadable { path: path.to_owned(), problem };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if MAX_BYTES < length as u64 { Err(unreadable(format!("it has more than {MAX_BYTES} bytes, the most that are read"))) } else { Ok(text) }
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
