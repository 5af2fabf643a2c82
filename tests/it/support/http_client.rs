//! A small HTTP/1.1 client: one connection, one request at a time, answers with a known length.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// Longer than any answer takes; a test that is left without one fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Headers of a request.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// Keeps its connection from one request to the next, and makes a new one after a failure.
pub struct HttpClient {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<BufReader<Box<dyn ReadWrite>>>,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// What was answered.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    pub status: u16,
    pub body: String,
    headers: Vec<(String, String)>,
}

impl HttpClient {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, tls: None, connection: None }
    }

    /// Over TLS, with a server that proves to be `localhost`.
    pub fn over_tls(address: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self { address, tls: Some(tls), connection: None }
    }

    /// Sends a request and reads the answer. Without an answer the connection is given up.
    pub fn ask(&mut self, method: &str, target: &str, headers: Headers) -> io::Result<HttpAnswer> {
        self.ask_with(method, target, headers, "")
    }

    /// The same with a body of JSON, unless that is empty.
    pub fn ask_with(&mut self, method: &str, target: &str, headers: Headers, json: &str) -> io::Result<HttpAnswer> {
        self.send_with(method, target, headers, json)?;
        let mut connection = self.connection.take().expect("sending made the connection");
        let answer = read_answer(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Closes the connection, whatever is on its way.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Sends a request whose answer nobody will read.
    pub fn send(&mut self, method: &str, target: &str, headers: Headers) -> io::Result<()> {
        self.send_with(method, target, headers, "")
    }

    /// The same with a body of JSON, unless that is empty.
    pub fn send_with(&mut self, method: &str, target: &str, headers: Headers, json: &str) -> io::Result<()> {
        if self.connection.is_none() {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            self.connection = Some(BufReader::new(match &self.tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = "localhost".try_into().expect("it is a name");
                    let tls = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
                    Box::new(StreamOwned::new(tls, stream))
                }
            }));
        }
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = json.len();
        let of_body = if json.is_empty() { String::new() } else { format!("Content-Type: application/json\r\nContent-Length: {length}\r\n") };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}{of_body}\r\n{json}", self.address);
        let sent = self.connection.as_mut().expect("it was just made").get_mut().write_all(request.as_bytes());
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }
}

impl HttpAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// A text of the body.
    pub fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned()
    }

    /// A number of the body.
    pub fn number(&self, name: &str) -> u64 {
        self.json()[name].as_u64().unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// Status and `code` of a problem.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        (self.status, self.text("code"))
    }

    /// Fails the test unless the status is 200.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }
}

fn read_answer(connection: &mut impl BufRead) -> io::Result<HttpAnswer> {
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        match connection.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    let status_line = line()?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut answer = HttpAnswer { status, headers, body: String::new() };
    let length: usize = answer.header("content-length").and_then(|length| length.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    answer.body = String::from_utf8(body).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(answer)
}
