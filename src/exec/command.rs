//! The command, with all that it starts: a process group of its own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, timeout_at};

/// A command that was started.
pub struct Running {
    child: Child,
    group: Pid,
}

/// Those that are passed on to the command.
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Running {
    /// Starts `command` with `environment` added to what there is.
    pub fn start<'a>(command: &[OsString], environment: impl Iterator<Item = (&'a &'static str, &'a String)>) -> io::Result<Self> {
        let child = Command::new(&command[0])
            .args(&command[1..])
            .envs(environment)
            // A group of its own, so that a signal reaches what a shell has started as well.
            .process_group(0)
            // Should this program fail in a way that nobody thought of.
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id as i32)).ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Self { child, group })
    }

    /// Its exit code; 128 + n if it was ended by signal n, as a shell has it.
    pub async fn wait(&mut self) -> u8 {
        self.child.wait().await.map_or(u8::MAX, code_of)
    }

    /// Passes signals on, for as long as it is polled.
    pub fn pass_on<'a>(&self, signals: &'a mut Signals) -> impl Future<Output = ()> + use<'a> {
        let group = self.group;
        async move {
            loop {
                // A group that is gone needs none.
                let _ = kill_process_group(group, signals.next().await);
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Ends it: with TERM, and what is left of it at `kill_at` with KILL. Returns when it is gone.
    pub async fn end(&mut self, kill_at: Instant) {
        self.signal(Signal::TERM);
        // One that is stopped hears nothing else.
        self.signal(Signal::CONT);
        let _ = timeout_at(kill_at, self.child.wait()).await;
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        use Signal as S;
        let kinds = [
            (S::HUP, SignalKind::hangup()),
            (S::INT, SignalKind::interrupt()),
            (S::QUIT, SignalKind::quit()),
            (S::TERM, SignalKind::terminate()),
            // The command stops, and its lease is renewed all the same.
            (S::TSTP, SignalKind::from_raw(S::TSTP.as_raw())),
            (S::CONT, SignalKind::from_raw(S::CONT.as_raw())),
            (S::USR1, SignalKind::user_defined1()),
            (S::USR2, SignalKind::user_defined2()),
        ];
        kinds.into_iter().map(|(signal, kind)| Ok((signal, unix::signal(kind)?))).collect::<io::Result<_>>().map(Self)
    }

    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, arrivals) in &mut self.0 {
                if arrivals.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let by_signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(by_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
