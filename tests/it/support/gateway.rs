//! The real program as a process of a test's own: it can be killed, terminated, restarted.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use super::http_client::Headers;
use super::{HttpAnswer, HttpClient, RedisServer, eventually};

/// How often a port may turn out to be taken between asking for a free one and using it.
const PORTS_TO_TRY: usize = 10;
const LOG: &str = "redlockd.log";

/// A gateway on a loopback port, with a directory of its own in which it runs. It dies with this value.
pub struct Gateway {
    address: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
    process: Child,
}

/// The program, to be run in `directory`, without settings from the environment of the test run.
pub fn redlockd(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redlockd"));
    let is_setting = |name: &str| name.starts_with("REDLOCKD_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// The flags for a quorum on these servers, named n1, n2 and so on, which granted nothing yet.
fn quorum_of<'a>(urls: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let nodes = urls.into_iter().enumerate().map(|(index, url)| format!("--node=n{}={url}", index + 1));
    nodes.chain(["--bootstrap".to_owned()]).collect()
}

impl Gateway {
    /// With these arguments and `--listen`. Answers when this returns, whatever it says.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(&[], arguments)
    }

    /// The same, with more variables in its environment.
    pub fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::launch(environment.collect(), arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    /// On a quorum of these servers, which vote when this returns.
    pub fn on(servers: &[RedisServer], arguments: &[&str]) -> Self {
        let urls: Vec<String> = servers.iter().map(RedisServer::url).collect();
        Self::on_urls(urls.iter().map(String::as_str), arguments)
    }

    /// The same, by address.
    pub fn on_urls<'a>(urls: impl IntoIterator<Item = &'a str>, arguments: &[&str]) -> Self {
        Self::on_urls_in(&[], urls, arguments)
    }

    /// The same, with more variables in its environment.
    pub fn on_urls_in<'a>(environment: &[(&str, &str)], urls: impl IntoIterator<Item = &'a str>, arguments: &[&str]) -> Self {
        let mut all = quorum_of(urls);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let gateway = Self::launch(environment.collect(), all);
        gateway.until_nodes_are("up", gateway.nodes().len());
        gateway
    }

    fn launch(environment: Vec<(String, String)>, arguments: Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..PORTS_TO_TRY {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
            let mut process = spawn(port, &arguments, &environment, directory.path());
            if comes_up(&mut process, port, directory.path()) {
                return Self { address: port, arguments, environment, directory, process };
            }
        }
        panic!("redlockd does not start; its log is:\n{}", log(directory.path()));
    }

    /// When it is restarted it does not say again that its nodes never granted anything.
    pub fn without_bootstrap(mut self) -> Self {
        self.arguments.retain(|argument| argument != "--bootstrap");
        self
    }

    /// SIGKILL: it ends wherever it is.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// SIGSTOP: it accepts connections, as the kernel does that, and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it if it still runs, and starts it on the same port in the same directory.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.address, &self.arguments, &self.environment, self.directory.path());
        let up = comes_up(&mut self.process, self.address, self.directory.path());
        assert!(up, "redlockd does not start again; its log is:\n{}", self.log());
    }

    /// SIGTERM, as from a supervisor.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGINT, as from a terminal.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// How it ended by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        eventually("the gateway exits", || self.process.try_wait().unwrap())
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success(), "cannot send SIG{signal}");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it runs, and where its embedded node keeps its data unless told otherwise.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn log(&self) -> String {
        log(self.directory.path())
    }

    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.address)
    }

    /// Asks at `metrics_listen`.
    pub fn operations(&self) -> HttpClient {
        let log = self.log();
        let address = log.split("metrics at http://").nth(1).unwrap().split('/').next().unwrap();
        HttpClient::new(address.parse().unwrap())
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, target: &str, headers: Headers) -> HttpAnswer {
        self.client().ask(method, target, headers).unwrap_or_else(|error| panic!("{method} {target}: {error}; the log is:\n{}", self.log()))
    }

    pub fn get(&self, target: &str) -> HttpAnswer {
        self.ask("GET", target, &[])
    }

    pub fn post(&self, target: &str) -> HttpAnswer {
        self.ask("POST", target, &[])
    }

    pub fn put(&self, target: &str, lease_id: &str) -> HttpAnswer {
        self.ask("PUT", target, &[("Lease-Id", lease_id)])
    }

    pub fn delete(&self, target: &str, lease_id: &str) -> HttpAnswer {
        self.ask("DELETE", target, &[("Lease-Id", lease_id)])
    }

    /// The nodes, as `GET /nodes` shows them.
    pub fn nodes(&self) -> Vec<Value> {
        self.get("/nodes").ok().json()["nodes"].as_array().unwrap().clone()
    }

    /// Waits until this many nodes are in this state.
    pub fn until_nodes_are(&self, state: &str, count: usize) {
        let counted = || self.nodes().iter().filter(|node| node["state"] == state).count();
        eventually(&format!("{count} nodes are {state}"), || (counted() == count).then_some(()));
    }

    /// A series of `/metrics` that has no labels.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").ok().body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may be dead already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(address: SocketAddr, arguments: &[String], environment: &[(String, String)], directory: &Path) -> Child {
    let log = File::create(directory.join(LOG)).unwrap();
    let mut command = redlockd(directory);
    command.args(["--listen", &address.to_string()]).args(arguments).envs(environment.iter().cloned());
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// False if the port was snatched away; then another process answers there.
fn comes_up(process: &mut Child, address: SocketAddr, directory: &Path) -> bool {
    let listening = ["http", "https"].map(|scheme| format!("listening on {scheme}://{address},"));
    eventually("the gateway answers or exits", || {
        if process.try_wait().unwrap().is_some() {
            let log = log(directory);
            assert!(log.contains("cannot listen"), "the gateway exited:\n{log}");
            return Some(false);
        }
        let log = log(directory);
        listening.iter().any(|line| log.contains(line)).then_some(true)
    })
}

fn log(directory: &Path) -> String {
    std::fs::read_to_string(directory.join(LOG)).unwrap_or_default()
}
