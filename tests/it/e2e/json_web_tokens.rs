//! Tokens of an issuer, whose keys come from a file or a URL and change while the gateway runs.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;

use crate::support::{Gateway, HttpAnswer, eventually};

const ISSUER: &str = "https://issuer.example";

/// A key of the issuer.
struct SigningKey {
    id: &'static str,
    key: EncodingKey,
}

impl SigningKey {
    fn new(id: &'static str) -> Self {
        Self { id, key: EncodingKey::from_ec_der(&KeyPair::generate().unwrap().serialize_der()) }
    }

    /// The set that has this key alone.
    fn jwks(&self) -> String {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap()
    }

    /// A token of an hour for `name`, who may do everything under `orders/`.
    fn token(&self, name: &str) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": ISSUER, "aud": "locks", "sub": name, "exp": now_s + 3600, "redlockd": ["*:orders/"]});
        encode(&Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) }, &claims, &self.key).unwrap()
    }
}

fn start(jwks: &str, more: &[&str]) -> Gateway {
    let (jwks, issuer) = (format!("--jwks={jwks}"), format!("--jwt-issuer={ISSUER}"));
    Gateway::start(&[&[jwks.as_str(), &issuer, "--jwt-audience=locks", "--node-timeout=5s"], more].concat())
}

fn post(gateway: &Gateway, token: &str, target: &str) -> HttpAnswer {
    gateway.ask("POST", target, &[("Authorization", &format!("Bearer {token}"))])
}

fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_token_of_the_issuer_brings_its_name_and_grants_and_ends_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    write(&file, &old.jwks());
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // of abc
    let roster = format!("[[token]]\nname = \"olga\"\nsha256 = \"{digest}\"\nallow = [\"*:\"]\n");
    let gateway = start(file.to_str().unwrap(), &["--tokens", &roster]);
    let token = old.token("worker-7");
    let first = eventually("the keys are in force", || Some(post(&gateway, &token, "/locks/orders/1")).filter(|answer| answer.status == 200));
    assert_eq!(first.ok().text("owner"), "worker-7");
    assert_eq!(post(&gateway, &token, "/locks/others/1").problem(), (403, "forbidden".into()));
    // The roster counts beside it.
    post(&gateway, "abc", "/locks/others/2").ok();
    write(&file, &new.jwks());
    let refused =
        eventually("the old key is gone", || Some(post(&gateway, &token, "/locks/orders/2?ttl=100ms")).filter(|answer| answer.status == 401));
    assert!(refused.problem().1 == "unauthorized" && refused.text("detail").contains("no key of the issuer"), "{refused:?}");
    post(&gateway, &new.token("worker-8"), "/locks/orders/3").ok();
    write(&file, "{}");
    eventually("it says so", || gateway.log().contains("the keys of the issuer stay as they are").then_some(()));
    post(&gateway, &new.token("worker-8"), "/locks/orders/4").ok();
    assert!(!gateway.log().contains(&token), "{}", gateway.log());
}

/// Answers every request with what `document` holds then, until the test ends.
fn serve(document: Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let body = document.lock().unwrap().clone();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn keys_are_fetched_again_when_a_token_names_one_that_is_not_known() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let document = Arc::new(Mutex::new(old.jwks()));
    let gateway = start(&format!("http://{}/jwks", serve(Arc::clone(&document))), &[]);
    let token = old.token("worker-7");
    eventually("the keys are in force", || (post(&gateway, &token, "/locks/orders/1?ttl=100ms").status == 200).then_some(()));
    *document.lock().unwrap() = new.jwks();
    let token = new.token("worker-7");
    eventually("the new key is fetched", || (post(&gateway, &token, "/locks/orders/2?ttl=100ms").status == 200).then_some(()));
}

#[test]
fn a_gateway_starts_without_its_issuer_and_says_so() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = start(&format!("http://{closed}/jwks"), &["--metrics-listen=127.0.0.1:0"]);
    eventually("it says so", || gateway.log().contains("cannot connect to").then_some(()));
    let metrics = gateway.operations().ask("GET", "/metrics", &[]).unwrap().ok().body;
    assert!(metrics.contains("redlockd_jwks_stale 1\n"), "{metrics}");
    assert_eq!(post(&gateway, &SigningKey::new("any").token("worker"), "/locks/orders/1").problem(), (503, "no_keys".into()));
    // A rollout has to stop here, while other gateways still have their keys.
    for answer in [gateway.get("/readyz"), gateway.operations().ask("GET", "/readyz", &[]).unwrap()] {
        assert_eq!(answer.problem(), (503, "no_keys".into()));
    }
    gateway.get("/livez").ok();
}
