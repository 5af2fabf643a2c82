//! Lease ids and passwords are seen by those whom they belong to, and by nobody else.

use std::io::{self, Write};
use std::process::Command;
use std::sync::{Mutex, Once};

use redlockd::config::{Config, Layered, LogFormat, LogSettings};
use redlockd::telemetry;
use serde_json::json;
use tracing_subscriber::util::SubscriberInitExt;

use crate::support::{Asking, RedisServer, TestRouter};

/// All that this process logs, at the finest level that can be configured.
static LOGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGS.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record_logs() {
    static STARTED: Once = Once::new();
    let settings = LogSettings { level: tracing::Level::TRACE, format: LogFormat::Text };
    STARTED.call_once(|| telemetry::subscriber(settings, || Log, false).try_init().unwrap());
}

fn logs() -> String {
    String::from_utf8_lossy(&LOGS.lock().unwrap()).into_owned()
}

/// The answer, whatever it is, and it does not name the lease.
async fn discreet(asking: Asking<'_>, lease: &str) -> u16 {
    let shown = format!("{asking:?}");
    let answer = asking.send().await;
    assert!(!answer.text.contains(lease) && !format!("{:?}", answer.headers).contains(lease), "{shown}: {}", answer.text);
    answer.status
}

#[tokio::test]
async fn a_lease_id_is_in_its_holders_answers_and_nowhere_else() {
    record_logs();
    let gateway = TestRouter::embedded().await;
    let lease = "the-secret-of-the-holder";
    let (query, body) = (format!("lease_id={lease}"), json!({ "lease_id": lease }).to_string());
    let repeats = [
        gateway.post(&format!("/locks/a?{query}")),
        gateway.post("/locks/a").header("Idempotency-Key", lease),
        gateway.post("/locks/a").json(&body),
        gateway.put("/locks/a").lease(lease),
        gateway.put(&format!("/locks/a?{query}")),
        gateway.put("/locks/a").json(&body),
    ];
    for holders in repeats {
        assert_eq!(holders.ok().await.str("lease_id"), lease);
    }
    let too_long = format!("{lease}{lease}{lease}");
    for (asking, status) in [
        (gateway.get("/locks/a"), 200),
        (gateway.get("/locks"), 200),
        (gateway.get("/nodes"), 200),
        (gateway.get("/metrics"), 200),
        (gateway.post("/locks/a"), 423),
        (gateway.put("/locks/a").lease("somebody-elses-lease"), 409),
        (gateway.delete("/locks/a").lease("somebody-elses-lease"), 409),
        (gateway.post(&format!("/locks/a?ttl=soon&{query}")), 400),
        (gateway.post(&format!("/locks/a?{query}&{query}")), 400),
        (gateway.post(&format!("/locks/a?lease_id={lease}%20")), 400),
        (gateway.post(&format!("/locks/a?lease_id={too_long}")), 400),
        (gateway.post(&format!("/locks/a?lease={lease}")), 400),
        (gateway.post("/locks/a").header("Idempotency-Key", format!("{lease}!")), 400),
        (gateway.post("/locks/a").json(&json!({ "lease_id": [lease] }).to_string()), 400),
        (gateway.post("/locks/a").json(&json!({ "lease": lease }).to_string()), 400),
        (gateway.post("/locks/a").json(&json!(lease).to_string()), 400),
        (gateway.post("/locks/a").json(lease), 400),
        (gateway.post("/locks/a").body(body.clone()), 415),
        (gateway.put("/locks/a").lease(&format!("{lease}!")), 400),
        (gateway.put(&format!("/locks/a?{query}")).lease(lease), 400),
        (gateway.get(&format!("/locks/a?{query}")), 400),
        (gateway.put(&format!("/lock/a?{query}")), 404),
        (gateway.ask(axum::http::Method::PATCH, &format!("/locks/a?{query}")), 405),
        (gateway.delete("/locks/a").lease(lease).header("Fencing-Token", "x"), 400),
        (gateway.delete(&format!("/locks/a?{query}")), 200),
        (gateway.delete("/locks/a").lease(lease), 200),
        (gateway.put("/locks/a").lease(lease), 410),
    ] {
        let shown = format!("{asking:?}");
        assert_eq!(discreet(asking, lease).await, status, "{shown}");
    }
    assert!(logs().contains("request method=\"DELETE\" route=\"/locks/{key}\""), "nothing was recorded");
    assert!(!logs().contains(lease));
}

#[tokio::test]
async fn an_outage_tells_no_lease_id() {
    record_logs();
    let mut servers = [RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    let lease = "the-secret-of-the-unlucky";
    gateway.post(&format!("/locks/a?lease_id={lease}")).ok().await;
    servers[0].kill();
    assert_eq!(discreet(gateway.post(&format!("/locks/a?lease_id={lease}")), lease).await, 503);
    assert_eq!(discreet(gateway.put("/locks/a").lease(lease), lease).await, 503);
    assert_eq!(discreet(gateway.delete("/locks/a").lease(lease), lease).await, 503);
    assert_eq!(discreet(gateway.get("/nodes"), lease).await, 200);
    assert!(!logs().contains(lease));
}

const PASSWORD: &str = "the-word-that-opens-it";

/// A server with a user named gateway.
fn guarded() -> RedisServer {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "gateway", "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"]);
    server
}

#[tokio::test]
async fn the_password_of_a_node_is_never_shown() {
    record_logs();
    let server = guarded();
    let gateway = TestRouter::on(&[format!("n1=redis://gateway:{PASSWORD}@127.0.0.1:{}", server.port())]).await;
    gateway.post("/locks/a").ok().await;
    for path in ["/nodes", "/metrics", "/readyz"] {
        assert!(!gateway.get(path).ok().await.text.contains(PASSWORD), "{path}");
    }
    assert!(!logs().contains(PASSWORD));
}

#[tokio::test]
async fn a_wrong_password_is_never_shown() {
    record_logs();
    let (server, wrong) = (guarded(), "the-word-that-does-not");
    let gateway = TestRouter::on(&[format!("n1=redis://gateway:{wrong}@127.0.0.1:{}", server.port())]).await;
    let nodes = gateway.get("/nodes").ok().await;
    assert!(!nodes["nodes"][0]["reason"].as_str().unwrap().is_empty(), "{}", nodes.text);
    gateway.post("/locks/a").problem(503, "no_quorum").await;
    assert!(!nodes.text.contains(wrong) && !logs().contains(wrong), "{}", nodes.text);
}

#[test]
fn an_address_that_can_not_be_used_is_refused_without_its_password() {
    for address in [
        format!("redis://gateway:{PASSWORD}@127.0.0.1:port"),
        format!("http://gateway:{PASSWORD}@127.0.0.1"),
        format!("redis-sentinel://:{PASSWORD}@127.0.0.1"),
        format!("redis://:{PASSWORD}@a,b"),
        format!("redis://:{PASSWORD}@127.0.0.1/database"),
        format!("gateway:{PASSWORD}@127.0.0.1"),
        format!("n 1=redis://:{PASSWORD}@127.0.0.1"),
        format!("{PASSWORD}=redis:/127.0.0.1"),
    ] {
        let error = Config::check(&Layered::scratch(vec![address.clone()])).unwrap_err().to_string();
        assert!(!error.contains(PASSWORD), "{address}: {error}");
    }
}

#[test]
fn twins_are_refused_without_their_passwords() {
    let twins = vec![format!("a=redis://:{PASSWORD}@h:1"), format!("b=redis://x:{PASSWORD}@h:1")];
    let error = Config::check(&Layered::scratch(twins)).unwrap_err().to_string();
    assert!(error.contains("redis://h:1/0") && !error.contains(PASSWORD), "{error}");
}

/// What the program prints, on both streams, and whether it was content.
fn printed(nodes: &str) -> (bool, String) {
    let config = Command::new(env!("CARGO_BIN_EXE_redlockd")).arg("config").env("REDLOCKD_NODES", nodes).output().unwrap();
    (config.status.success(), String::from_utf8_lossy(&[config.stdout, config.stderr].concat()).into_owned())
}

#[test]
fn the_printed_configuration_has_no_passwords() {
    let (content, text) = printed(&format!("a=redis://gateway:{PASSWORD}@h:7001,rediss://:{PASSWORD}@i/2"));
    assert!(content && text.contains(r#"["a=redis://h:7001/0","i:6379/2=rediss://i:6379/2"]"#), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn a_configuration_that_can_not_be_used_is_refused_without_its_passwords() {
    let (content, text) = printed(&format!("redis://gateway:{PASSWORD}@h:port"));
    assert!(!content && text.contains("nodes: node 1"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}
