//! Events as a server sends them (text/event-stream).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// A connection, and what is told on it.
pub struct EventStream {
    stream: BufReader<TcpStream>,
}

impl EventStream {
    /// Asks for events with this method.
    pub fn connect(gateway: SocketAddr, method: &str, target: &str) -> Self {
        Self::connect_with(gateway, method, target, "")
    }

    /// The same with a body of JSON, unless that is empty.
    pub fn connect_with(gateway: SocketAddr, method: &str, target: &str, json: &str) -> Self {
        let mut stream = TcpStream::connect(gateway).unwrap();
        let length = json.len();
        let of_body = if json.is_empty() { String::new() } else { format!("Content-Type: application/json\r\nContent-Length: {length}\r\n") };
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{of_body}\r\n{json}").unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// The next event, with its data. None if the stream has ended.
    pub fn next(&mut self) -> Option<(String, Value)> {
        let mut name = None;
        loop {
            let mut line = String::new();
            // Ended by the gateway, or in the middle of something.
            if self.stream.read_line(&mut line).unwrap_or_default() == 0 || line == "0\r\n" {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.trim_end().to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name.expect("an event has a name"), serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The data of the next event of this name, and which others came before it.
    pub fn until(&mut self, name: &str) -> (Value, Vec<String>) {
        let mut others = Vec::new();
        loop {
            match self.next().unwrap_or_else(|| panic!("the stream ends without {name}")) {
                (found, data) if found == name => return (data, others),
                (other, _) => others.push(other),
            }
        }
    }
}
