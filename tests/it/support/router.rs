//! The whole HTTP face in one process: requests go straight into the router.

use std::fmt;
use std::ops::Index;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use redlockd::app::App;
use redlockd::config::{Config, Layered, Settings};
use serde_json::Value;
use tower::ServiceExt;

use super::{RedisServer, eventually_async};

/// A gateway on nodes of its own.
pub struct TestRouter {
    app: App,
    _data: tempfile::TempDir,
}

/// A request that is being written.
pub struct Asking<'a> {
    gateway: &'a TestRouter,
    request: Request<Body>,
}

/// What came back, read to its end.
#[derive(Debug)]
pub struct RouterAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Pictures suffer.
    pub text: String,
    /// Null where the text is no JSON.
    pub json: Value,
}

impl TestRouter {
    /// On an embedded node in a new directory.
    pub async fn embedded() -> Self {
        Self::on(&[]).await.ready().await
    }

    /// On new servers, so that every node votes at once.
    pub async fn redis(servers: &[RedisServer]) -> Self {
        let urls: Vec<String> = servers.iter().map(RedisServer::url).collect();
        Self::on(&urls).await.ready().await
    }

    /// On nodes at these addresses, which nobody may have used before; on an embedded one without any.
    pub async fn on(addresses: &[String]) -> Self {
        Self::with(Layered::scratch(addresses.to_vec())).await
    }

    /// On an embedded node, with this roster.
    pub async fn with_tokens(roster: &str) -> Self {
        let mut layered = Layered::scratch(Vec::new());
        layered.settings.tokens = Some(roster.to_owned());
        Self::with(layered).await.ready().await
    }

    async fn with(mut layered: Layered) -> Self {
        let data = tempfile::tempdir().unwrap();
        // Patient, because the machine may be busy with other tests.
        let patient = Settings { node_timeout: Some("10s".into()), ..layered.settings };
        layered.settings = Settings { data_dir: data.path().to_str().map(str::to_owned), ..patient };
        let app = App::build(&Config::check(&layered).unwrap()).await.unwrap();
        Self { app, _data: data }
    }

    /// When every node votes.
    async fn ready(self) -> Self {
        let cluster = self.app.redlock().cluster();
        eventually_async("all nodes vote", async || (cluster.voting() == cluster.quorum().nodes()).then_some(())).await;
        self
    }
    /// As a SIGTERM does.
    pub fn drain(&self) {
        self.app.draining().begin();
    }

    pub fn get(&self, path: &str) -> Asking<'_> {
        self.ask(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Asking<'_> {
        self.ask(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Asking<'_> {
        self.ask(Method::PUT, path)
    }

    pub fn delete(&self, path: &str) -> Asking<'_> {
        self.ask(Method::DELETE, path)
    }

    pub fn ask(&self, method: Method, path: &str) -> Asking<'_> {
        Asking { gateway: self, request: Request::builder().method(method).uri(path).body(Body::empty()).unwrap() }
    }
}

impl Asking<'_> {
    /// Any bytes that a header may hold, ASCII or not.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.request.headers_mut().append(HeaderName::try_from(name).unwrap(), value);
        self
    }

    /// The lease that is extended or released.
    pub fn lease(self, lease_id: &str) -> Self {
        self.header("Lease-Id", lease_id)
    }

    pub fn body(mut self, body: impl Into<Body>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    pub fn json(self, text: &str) -> Self {
        self.header("Content-Type", "application/json").body(text.to_owned())
    }

    pub async fn send(self) -> RouterAnswer {
        let response = self.gateway.app.router().oneshot(self.request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        RouterAnswer { status, headers, json: serde_json::from_str(&text).unwrap_or_default(), text }
    }

    /// The client is gone when the head of the answer is ready.
    pub async fn drop_unread(self) {
        drop(self.gateway.app.router().oneshot(self.request).await.unwrap());
    }

    /// The answer, which must be 200.
    pub async fn ok(self) -> RouterAnswer {
        let answer = self.send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    }

    /// The answer, which must be this problem, and must be complete.
    pub async fn problem(self, status: u16, code: &str) -> RouterAnswer {
        let answer = self.send().await;
        answer.assert_problem(status, code);
        answer
    }
}

impl RouterAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A member that must be a string.
    pub fn str(&self, name: &str) -> &str {
        self[name].as_str().unwrap_or_else(|| panic!("{name} is no string in {}", self.text))
    }

    /// A member that must be a whole number.
    pub fn u64(&self, name: &str) -> u64 {
        self[name].as_u64().unwrap_or_else(|| panic!("{name} is no whole number in {}", self.text))
    }

    /// The names of all members, in order.
    pub fn members(&self) -> Vec<&str> {
        self.json.as_object().unwrap().keys().map(String::as_str).collect()
    }

    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self["code"]), (status, &Value::from(code)), "{}", self.text);
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"));
        assert_eq!(self["type"], format!("urn:redlockd:{code}"));
        assert_eq!(self["status"], status);
        assert!(!self.str("title").is_empty() && !self.str("detail").is_empty(), "{}", self.text);
    }

    /// The sentence for people holds these words.
    pub fn assert_says(&self, words: &str, shown: &str) {
        assert!(self.str("detail").contains(words), "{shown}: {:?} should say {words:?}", self.str("detail"));
    }
}

impl fmt::Debug for Asking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.request.method(), self.request.uri(), self.request.headers())
    }
}

impl Index<&str> for RouterAnswer {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.json[name]
    }
}
