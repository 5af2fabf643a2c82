//! A wall clock that a test sets, for a `redis-server` that runs on it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stands still until it is set again, or goes on ahead of or behind the real one. The server's timers go on either way.
pub struct TestClock {
    shown_us: AtomicU64,
    file: File,
    directory: tempfile::TempDir,
}

impl TestClock {
    /// Shows one and the same microsecond since 1970.
    pub fn frozen_at(micros: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("now")).unwrap();
        let clock = Self { shown_us: AtomicU64::new(micros), file, directory };
        clock.set(micros);
        clock
    }

    /// Goes with the real one until it is set.
    pub fn real() -> Self {
        let clock = Self::frozen_at(0);
        clock.set_ahead(0);
        clock
    }

    /// Goes on, so many microseconds ahead of the real one, or behind it.
    pub fn set_ahead(&self, micros: i64) {
        self.file.write_all_at(&micros.to_ne_bytes(), 0).unwrap();
    }

    /// Microseconds since 1970.
    pub fn now_us(&self) -> u64 {
        self.shown_us.load(Ordering::SeqCst)
    }

    /// What the next command that the server runs will see. Backwards, too.
    pub fn set(&self, micros: u64) {
        self.file.write_all_at(&micros.to_ne_bytes(), 0).unwrap();
        self.shown_us.store(micros, Ordering::SeqCst);
    }

    /// The environment of a server that runs on this clock.
    pub fn environment(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.to_str().expect("temporary paths are UTF-8").to_owned();
        [("LD_PRELOAD".into(), text(library())), ("TEST_CLOCK".into(), text(&self.directory.path().join("now")))]
    }
}

/// The preloaded library, compiled once per test run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/test_clock.c");
        // Renamed into place, because another test run may have the old one mapped.
        let (fresh, library) = (directory.join(format!("test_clock.{}", std::process::id())), directory.join("test_clock.so"));
        let compiled = Command::new("cc").args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&fresh).arg(&source).status();
        let compiled = compiled.expect("these tests need a C compiler; install one (apt-get install gcc)");
        assert!(compiled.success(), "cc cannot compile {}", source.display());
        std::fs::rename(&fresh, &library).unwrap();
        library
    })
}
