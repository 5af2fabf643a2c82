//! Files that a running gateway follows: read again when they change, so that nothing has to be restarted.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// Why a file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}", path = path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub problem: String,
}

/// Room for the largest roster, and for any chain of certificates.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How soon a change is noticed. Files are looked at rather than watched: that works with every way in which files are
/// replaced, those of Kubernetes included.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a disk may take before that is told.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// What each file holds, or what is wrong with the first that can't be read.
pub type Contents = Result<Vec<String>, FileError>;

/// Files that belong together.
pub struct FollowedFiles {
    paths: Arc<[PathBuf]>,
    ticks: Interval,
    /// What was told last.
    told: Option<Contents>,
    /// What was there at the last look.
    before: Option<Contents>,
    /// A look that takes long. There is never more than one, so that a disk that hangs holds up one thread.
    looking: Option<JoinHandle<Contents>>,
}

impl FollowedFiles {
    /// Must be called within a tokio runtime.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { paths: paths.into_iter().collect(), ticks, told: None, before: None, looking: None }
    }

    /// What they hold, the first time as soon as that is settled, then whenever it is something else.
    pub async fn next(&mut self) -> Contents {
        loop {
            self.ticks.tick().await;
            let now = self.look().await;
            // Twice the same: they are not being written just now.
            let is_settled = self.before.as_ref() == Some(&now);
            self.before = Some(now.clone());
            if is_settled && self.told.as_ref() != Some(&now) {
                self.told = Some(now.clone());
                return now;
            }
        }
    }
}

impl FollowedFiles {
    /// A disk may hang, and neither a thread that serves requests nor whoever waits for the files may hang with it.
    async fn look(&mut self) -> Contents {
        let paths = Arc::clone(&self.paths);
        let looking = self.looking.get_or_insert_with(|| tokio::task::spawn_blocking(move || read_all(&paths)));
        let late = || FileError { path: self.paths[0].clone(), problem: format!("not read within {} s", LONGEST_LOOK.as_secs()) };
        let Ok(read) = timeout(LONGEST_LOOK, looking).await else { return Err(late()) };
        self.looking = None;
        read.unwrap_or_else(|_| Err(late()))
    }
}

/// What a file holds: UTF-8, of a size that a file of ours can have.
pub fn read(path: &Path) -> Result<String, FileError> {
    let unreadable = |problem: String| FileError { path: path.to_owned(), problem };
    // To open a pipe is to wait for whoever writes into it.
    if !std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if MAX_BYTES < length as u64 { Err(unreadable(format!("it has more than {MAX_BYTES} bytes, the most that are read"))) } else { Ok(text) }
}

fn read_all(paths: &[PathBuf]) -> Contents {
    paths.iter().map(|path| read(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_settled_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::write(&one, "1").unwrap();
        let mut files = FollowedFiles::new([one.clone(), two.clone()]);
        assert_eq!(files.next().await.unwrap_err().path, two);
        std::fs::write(&two, "2").unwrap();
        assert_eq!(files.next().await.unwrap(), ["1", "2"]);
        std::fs::write(&one, "3").unwrap();
        assert_eq!(files.next().await.unwrap(), ["3", "2"]);
        assert!(tokio::time::timeout(Duration::from_secs(60), files.next()).await.is_err());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, folder.path()] {
            assert_eq!(read(path).unwrap_err().problem, "it is not a file");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, vec![b'x'; MAX_BYTES as usize + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("large: it has more than 4194304 bytes"));
    }
}
