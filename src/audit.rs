//! The audit log: who did what to which lock, as lines of JSON on standard output, where nothing else is written.
//!
//! A thread of its own writes, so that a slow reader holds up nobody. Between it and the requests is a queue with a
//! bound; what is beyond is counted and lost.

use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
use serde::Serialize;
use tracing::error;

/// Where events go. Clones share the queue.
#[derive(Clone)]
pub struct Audit(Option<Arc<Sink>>);

struct Sink {
    queue: SyncSender<Message>,
    dropped: IntCounter,
}

/// What somebody did or wanted to do to a lock.
#[derive(Serialize)]
pub struct Event<'a> {
    /// When it was over, in RFC 3339.
    pub time: String,
    /// `acquire`, `extend`, `release` or `force`.
    pub event: &'static str,
    /// `granted`, `extended`, `released`, `not_held`, the code of the problem that was answered, or `abandoned`; `left` or
    /// `draining` where a connection held the lock and ended without a release.
    pub outcome: &'static str,
    /// Not there of a set of locks that nobody knows any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// `semaphore` if it is the name of one, `set` if there is none; a lock's else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// What the caller is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<&'a str>,
    /// Who calls it that: `roster`, `issuer` or `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_by: Option<&'static str>,
    /// The address from which it asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// As in the header `X-Request-Id`, in the log and in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The label of the holder: of a new one, or by force of the one that lost the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
    /// Why, by force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

enum Message {
    Line(Vec<u8>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

/// How many lines may wait for a slow reader: two seconds of 4 000 a second, in some 2 MB.
const MAX_WAITING: usize = 8192;

impl Audit {
    /// Keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Writes to standard output. `dropped` counts what could not be kept.
    pub fn to_stdout(dropped: IntCounter) -> io::Result<Self> {
        Self::to(io::stdout(), dropped)
    }

    fn to(writer: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<Self> {
        let (queue, lines) = sync_channel(MAX_WAITING);
        let lost = dropped.clone();
        let writing = move || {
            if let Err(error) = write(&lines, BufWriter::new(writer)) {
                error!("the audit log is not written any more: {error}");
                // What it was about to write, what waits, and what is told from now on: a queue that nobody reads takes lines
                // until it is gone.
                lost.inc();
                lines.iter().filter(|message| matches!(message, Message::Line(_))).for_each(|_| lost.inc());
            }
        };
        std::thread::Builder::new().name("audit".to_owned()).spawn(writing)?;
        Ok(Self(Some(Arc::new(Sink { queue, dropped }))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Keeps an event, which is made only if it is wanted.
    pub fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        let Some(sink) = &self.0 else { return };
        let Ok(mut line) = serde_json::to_vec(&event()) else { return sink.dropped.inc() };
        line.push(b'\n');
        if sink.queue.try_send(Message::Line(line)).is_err() {
            sink.dropped.inc();
        }
    }

    /// Returns when everything so far is written, or after a second: whoever reads it may have stopped to. Blocks.
    pub fn flush(&self) {
        let Some(sink) = self.0.clone() else { return };
        let (written, is_written) = sync_channel(1);
        // The queue may be full, and waiting for room in it has no end of its own.
        std::thread::spawn(move || sink.queue.send(Message::Flush(written)));
        let _ = is_written.recv_timeout(Duration::from_secs(1));
    }
}

/// Until nobody can tell any more; fails when the output is gone.
fn write(messages: &Receiver<Message>, mut writer: impl Write) -> io::Result<()> {
    let mut next = messages.recv().ok();
    while let Some(message) = next {
        let outcome = match message {
            Message::Line(line) => writer.write_all(&line),
            Message::Flush(written) => writer.flush().map(|()| {
                // Whoever waited may have given up.
                let _ = written.send(());
            }),
        };
        let following = match messages.try_recv() {
            Err(TryRecvError::Empty) => writer.flush().map(|()| messages.recv().ok()),
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Disconnected) => Ok(None),
        };
        outcome?;
        next = following?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    fn event(key: &str) -> Event<'_> {
        let time = "2026-11-25T00:00:00.000Z".to_owned();
        let (event, outcome, fencing_token) = ("acquire", "granted", Some(7));
        Event {
            time,
            event,
            outcome,
            key: Some(key),
            kind: None,
            who: None,
            known_by: None,
            from: None,
            request_id: None,
            owner: None,
            fencing_token,
            reason: None,
        }
    }

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_a_line_of_json() {
        let output = Output::default();
        let audit = Audit::to(output.clone(), counter()).unwrap();
        audit.tell(|| event("a\nb"));
        audit.tell(|| event("c"));
        audit.flush();
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        let line = |key: &str| {
            format!("{{\"time\":\"2026-11-25T00:00:00.000Z\",\"event\":\"acquire\",\"outcome\":\"granted\",\"key\":\"{key}\",\"fencing_token\":7}}\n")
        };
        assert_eq!(text, line("a\\nb") + &line("c"));
    }

    #[test]
    fn what_an_output_that_is_gone_takes_along_is_counted() {
        let dropped = counter();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let audit = Audit::to(full, dropped.clone()).unwrap();
        (1..=3).for_each(|count| {
            audit.tell(|| event("a"));
            while dropped.get() < count {
                std::thread::yield_now();
            }
        });
        assert_eq!(dropped.get(), 3);
    }

    /// Takes nothing until it is let.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_slow_reader_leaves_no_room_for_is_counted() {
        let (let_it, is_let) = sync_channel(0);
        let dropped = counter();
        let audit = Audit::to(Stuck(is_let), dropped.clone()).unwrap();
        let told = 10 * MAX_WAITING;
        (0..told).for_each(|_| audit.tell(|| event("a")));
        let lost = dropped.get() as usize;
        assert!(0 < lost && lost < told, "{lost}");
        drop(let_it);
    }
}
