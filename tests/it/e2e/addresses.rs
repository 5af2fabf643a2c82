//! Nodes behind TLS, behind a password, in a database of their own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use super::PATIENT;
use crate::support::{Gateway, RedisServer};

/// `s3:cr@t`, as it is written in an address.
const PASSWORD: &str = "s3%3Acr%40t";

fn add_worker(server: &RedisServer) {
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">s3:cr@t", "~*", "&*", "+@all"]);
}

/// The certificate of an authority made for the test, and a server that proves to be `localhost` with it.
fn tls_server(directory: &Path) -> (PathBuf, RedisServer, u16) {
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).unwrap();
        directory.join(name)
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let (authority, certificate, key) =
        (write("ca.pem", authority.pem()), write("server.pem", certificate.pem()), write("server.key", key.serialize_pem()));
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let (authority_file, certificate, key, tls_port) = (text(&authority), text(&certificate), text(&key), port.to_string());
    let mut arguments = vec!["--tls-port", &tls_port, "--tls-ca-cert-file", &authority_file, "--tls-cert-file", &certificate];
    arguments.extend(["--tls-key-file", &key, "--tls-auth-clients", "no"]);
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
    let (authority, server, port) = tls_server(directory.path());
    let node = format!("--node=n1=rediss://worker:{PASSWORD}@localhost:{port}/3");
    let gateway = Gateway::start_in(&[("SSL_CERT_FILE", authority.to_str().unwrap())], &[&[node.as_str(), "--bootstrap"], PATIENT].concat());
    assert_eq!(gateway.post("/locks/tls").status, 200, "{}", gateway.log());
    let keys: String = server.run(&["INFO", "keyspace"]);
    assert!(keys.contains("db3:keys=") && !keys.contains("db0:"), "{keys}");
}

#[test]
fn a_node_whose_certificate_nobody_vouches_for_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let (_, _server, port) = tls_server(directory.path());
    let gateway = Gateway::start(&[&format!("--node=n1=rediss://worker:{PASSWORD}@localhost:{port}"), "--bootstrap"]);
    assert_eq!(gateway.post("/locks/tls").problem(), (503, "no_quorum".into()));
    assert!(first_node(&gateway)["reason"].as_str().unwrap().contains("certificate"), "{}", first_node(&gateway));
}

#[test]
fn a_wrong_password_is_told_and_not_repeated() {
    let server = RedisServer::start();
    add_worker(&server);
    let gateway = Gateway::start(&[&format!("--node=n1=redis://worker:wr0ng@127.0.0.1:{}", server.port())]);
    let node = first_node(&gateway);
    assert!(node["state"] == "refused" && node["reason"].as_str().unwrap().contains("credentials"), "{node}");
    assert_eq!(gateway.post("/locks/a").json()["votes"][0]["vote"], "refused");
    assert!(!format!("{node}{}", gateway.log()).contains("wr0ng"), "{node}{}", gateway.log());
}
