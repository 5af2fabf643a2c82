//! A gateway of one process and no quorum, for tests: it grants, refuses, checks every release, and may hang up.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub struct GatewayDouble {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

/// What has happened so far.
#[derive(Default)]
pub struct Seen {
    pub connections: u64,
    requests: u64,
    pub hung_up: u64,
    pub granted: u64,
    pub refused: u64,
    pub released: u64,
    /// Requests that no client of the gateway should send.
    pub wrong: u64,
    /// The path of a lock and the fencing token that it was granted with.
    pub held: HashMap<String, u64>,
    pub keys: HashSet<String>,
}

impl GatewayDouble {
    /// Serves until the test ends. Every `hang_up`-th request is cut off before anything is done.
    pub async fn start(hang_up: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let seen = shared.clone();
                let service = service_fn(move |request| std::future::ready(seen.lock().unwrap().answer(&request, hang_up)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Seen {
    fn answer(&mut self, request: &Request<Incoming>, hang_up: u64) -> Result<Response<String>, &'static str> {
        self.requests += 1;
        if self.requests.is_multiple_of(hang_up) {
            self.hung_up += 1;
            return Err("hung up, as the test wants it");
        }
        let lock = request.uri().path().to_owned();
        if !lock.starts_with("/locks/bench-") || !request.headers().contains_key("host") {
            self.wrong += 1;
        }
        self.keys.insert(lock.clone());
        Ok(match *request.method() {
            Method::POST => self.acquire(lock, request.uri().query()),
            _ => self.release(&lock, request),
        })
    }

    fn acquire(&mut self, lock: String, query: Option<&str>) -> Response<String> {
        if query != Some("ttl=30s") {
            self.wrong += 1;
        }
        if self.held.contains_key(&lock) {
            self.refused += 1;
            let problem = r#"{"code":"locked","detail":"held by another"}"#.to_owned();
            return Response::builder().status(423).header("content-type", "application/problem+json").body(problem).unwrap();
        }
        self.granted += 1;
        self.held.insert(lock, self.granted);
        let grant = Response::builder().header("lease-id", format!("lease-{}", self.granted)).header("fencing-token", self.granted);
        grant.body("{}".repeat(100)).unwrap()
    }

    fn release(&mut self, lock: &str, request: &Request<Incoming>) -> Response<String> {
        let shown = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let expected = self.held.remove(lock).unwrap_or_default().to_string();
        let proven = shown("fencing-token") == expected && shown("lease-id") == format!("lease-{expected}");
        if *request.method() == Method::DELETE && proven {
            self.released += 1;
        } else {
            self.wrong += 1;
        }
        Response::new(r#"{"released":true}"#.to_owned())
    }
}
