//! Nodes behind TLS, behind a password, in a database of their own.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use super::PATIENT;
use crate::support::{Authority, Gateway, RedisServer};

/// `s3:cr@t`, as it is written in an address.
const PASSWORD: &str = "s3%3Acr%40t";

fn add_worker(server: &RedisServer) {
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">s3:cr@t", "~*", "&*", "+@all"]);
}

/// A server that proves to be `localhost`, with the authority that vouches for it, and the port. `asks_clients` is yes or
/// no: whether clients have to show a certificate.
fn tls_server(directory: &Path, asks_clients: &str) -> (Authority, RedisServer, u16) {
    let authority = Authority::new(directory, "redis");
    let files = authority.issue(&["localhost"]);
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (authority_file, certificate, key, tls_port) = (text(&authority.file), text(&files.certificate), text(&files.key), port.to_string());
    let mut arguments = vec!["--tls-port", &tls_port, "--tls-ca-cert-file", &authority_file, "--tls-cert-file", &certificate];
    arguments.extend(["--tls-key-file", &key, "--tls-auth-clients", asks_clients]);
    let server = RedisServer::start_with(&arguments);
    add_worker(&server);
    (authority, server, port)
}

fn first_node(gateway: &Gateway) -> Value {
    gateway.nodes().remove(0)
}

#[test]
fn a_node_behind_tls_and_a_password_keeps_locks_in_its_database() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, server, port) = tls_server(directory.path(), "no");
    let node = format!("n1=rediss://worker:{PASSWORD}@localhost:{port}/3");
    let environment = [("SSL_CERT_FILE", authority.file.to_str().unwrap()), ("REDLOCKD_NODES", &node)];
    let gateway = Gateway::start_in(&environment, &[&["--bootstrap"], PATIENT].concat());
    assert_eq!(gateway.post("/locks/tls").status, 200, "{}", gateway.log());
    let keys: String = server.run(&["INFO", "keyspace"]);
    assert!(keys.contains("db3:keys=") && !keys.contains("db0:"), "{keys}");
}

#[test]
fn a_node_whose_certificate_nobody_vouches_for_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let (_, _server, port) = tls_server(directory.path(), "no");
    let gateway = Gateway::start_in(&[("REDLOCKD_NODES", &format!("n1=rediss://worker:{PASSWORD}@localhost:{port}"))], &["--bootstrap"]);
    assert_eq!(gateway.post("/locks/tls").problem(), (503, "no_quorum".into()));
    assert!(first_node(&gateway)["reason"].as_str().unwrap().contains("certificate"), "{}", first_node(&gateway));
}

#[test]
fn a_node_that_wants_a_certificate_of_the_gateway_is_shown_one() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, _server, port) = tls_server(directory.path(), "yes");
    let nodes = format!("n1=rediss://worker:{PASSWORD}@localhost:{port}");
    let ca = format!("--node-tls-ca-file={}", authority.file.display());
    let without = Gateway::start_in(&[("REDLOCKD_NODES", &nodes)], &["--bootstrap", &ca]);
    assert_eq!(without.post("/locks/tls").problem(), (503, "no_quorum".into()));
    let shown = authority.issue(&["gateway.local"]);
    let (certificate, key) =
        (format!("--node-tls-cert-file={}", shown.certificate.display()), format!("--node-tls-key-file={}", shown.key.display()));
    let with = Gateway::start_in(&[("REDLOCKD_NODES", &nodes)], &[&["--bootstrap", &ca, &certificate, &key], PATIENT].concat());
    assert_eq!(with.post("/locks/tls").status, 200, "{}", with.log());
}

#[test]
fn a_wrong_password_is_told_and_not_repeated() {
    let server = RedisServer::start();
    add_worker(&server);
    let gateway = Gateway::start_in(&[("REDLOCKD_NODES", &format!("n1=redis://worker:wr0ng@127.0.0.1:{}", server.port()))], &[]);
    let node = first_node(&gateway);
    assert!(node["state"] == "refused" && node["reason"].as_str().unwrap().contains("credentials"), "{node}");
    assert_eq!(gateway.post("/locks/a").json()["votes"][0]["vote"], "refused");
    assert!(!format!("{node}{}", gateway.log()).contains("wr0ng"), "{node}{}", gateway.log());
}
