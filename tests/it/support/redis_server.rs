//! A real `redis-server` of a test's own: it can be killed, restarted, paused, and given another clock.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::FromRedisValue;

use super::{TestClock, eventually};

/// Nothing is kept, nothing is evicted, so a restart forgets. What a test adds comes after these and wins.
const ARGUMENTS: &[&str] = &["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"];
/// In the server's directory, which the server makes its working directory.
const LOG: &str = "redis.log";
/// How often a port may turn out to be taken between asking for a free one and using it.
const PORTS_TO_TRY: usize = 10;
/// For commands of the tests themselves.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A server on a loopback port with a directory of its own. It dies with this value.
pub struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
    process: Child,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments, as on the command line: `&["--appendonly", "yes"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launch(arguments, Vec::new())
    }

    /// Its wall clock, and so the expiry of its keys, is the test's.
    pub fn start_with_clock(clock: &TestClock) -> Self {
        Self::start_with_clock_and(clock, &[])
    }

    /// The same with more arguments.
    pub fn start_with_clock_and(clock: &TestClock, arguments: &[&str]) -> Self {
        Self::launch(arguments, clock.environment().into())
    }

    /// What makes a server take DEBUG commands, which 6.2 does unasked.
    pub fn arguments_to_debug() -> &'static [&'static str] {
        let version = Command::new("redis-server").arg("--version").output().unwrap().stdout;
        if String::from_utf8_lossy(&version).contains("v=6.") { &[] } else { &["--enable-debug-command", "yes"] }
    }

    fn launch(arguments: &[&str], environment: Vec<(String, String)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = ARGUMENTS.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        for _ in 0..PORTS_TO_TRY {
            let port = free_port();
            let mut process = spawn(port, &arguments, &environment, directory.path());
            if comes_up(&mut process, port) {
                return Self { port, arguments, environment, directory, process };
            }
        }
        panic!("redis-server does not start; its log ends with:\n{}", log(directory.path()));
    }

    /// SIGKILL: nothing is flushed, nothing is said to clients.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it if it still runs, and starts it on the same port in the same directory.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port, &self.arguments, &self.environment, self.directory.path());
        let up = comes_up(&mut self.process, self.port);
        assert!(up, "redis-server does not start again; its log ends with:\n{}", log(self.directory.path()));
    }

    /// Cuts the end off what a dead server has written down, as a power failure does with what was not on the disk yet.
    pub fn lose_the_end_of_its_log(&self) {
        // Redis 7 keeps the log in a directory of its own, older ones keep a file.
        let of_7 = std::fs::read_dir(self.directory.path().join("appendonlydir")).into_iter().flatten();
        let parts = of_7.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
        for path in parts.chain([self.directory.path().join("appendonly.aof")]).filter(|path| path.exists()) {
            let log = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            let length = log.metadata().unwrap().len();
            log.set_len(length - length.min(8 * 1024)).unwrap();
        }
    }

    /// SIGSTOP: it accepts connections, as the kernel does that, and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
        eventually("the server stops", || (self.process_state() == 'T').then_some(()));
    }

    pub fn resume(&self) {
        self.signal("CONT");
        eventually("the server goes on", || (self.process_state() != 'T').then_some(()));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// A connection for the test's own commands.
    pub fn connect(&self) -> redis::Connection {
        let connection = redis::Client::open(self.url()).unwrap().get_connection_with_timeout(COMMAND_TIMEOUT).unwrap();
        connection.set_read_timeout(Some(COMMAND_TIMEOUT)).unwrap();
        connection
    }

    /// Runs one command: `server.run::<()>(&["FLUSHALL"])`.
    pub fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        redis::cmd(command[0]).arg(&command[1..]).query(&mut self.connect()).unwrap()
    }

    /// Which start of the server this is, in its own words.
    pub fn run_id(&self) -> String {
        let info: String = self.run(&["INFO", "server"]);
        info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success(), "cannot send SIG{signal}");
    }

    /// The letter that the kernel has for it; `T` is stopped.
    fn process_state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.chars().next().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may be dead already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, arguments: &[String], environment: &[(String, String)], directory: &Path) -> Child {
    let mut command = Command::new("redis-server");
    // The directory first: the log is opened as soon as it is named.
    command.arg("--dir").arg(directory).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", LOG]);
    command.args(arguments).envs(environment.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("these tests need a real redis-server in PATH; install one (apt-get install redis-server)")
}

/// Whether this very process answers: on a port that was snatched away another server would.
fn comes_up(process: &mut Child, port: u16) -> bool {
    let own = format!("process_id:{}\r", process.id());
    eventually("redis-server answers or exits", || {
        if process.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let client = redis::Client::open(("127.0.0.1", port)).unwrap();
        let info: String = redis::cmd("INFO").query(&mut client.get_connection_with_timeout(COMMAND_TIMEOUT).ok()?).ok()?;
        // One that still reads its log answers to nothing else.
        (info.contains(&own) && info.contains("\nloading:0\r")).then_some(true)
    })
}

fn log(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
