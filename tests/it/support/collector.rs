//! A collector of OpenTelemetry traces, as much as an exporter needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Takes spans until the process ends.
pub struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, bodies) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let theirs = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // An exporter that hangs up tries again.
                let _ = connection.and_then(|connection| take_batch(connection, &theirs));
            }
        });
        Self { address, bodies }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to say.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was sent, as it was.
    pub fn bytes(&self) -> Vec<u8> {
        self.bodies.lock().unwrap().concat()
    }

    pub fn batches(&self) -> Vec<ExportTraceServiceRequest> {
        self.bodies.lock().unwrap().iter().map(|body| ExportTraceServiceRequest::decode(body.as_slice()).unwrap()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let batches = self.batches().into_iter().flat_map(|batch| batch.resource_spans);
        batches.flat_map(|of_resource| of_resource.scope_spans).flat_map(|of_scope| of_scope.spans).collect()
    }
}

/// An attribute of a span, as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()?;
    match value {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn take_batch(connection: TcpStream, bodies: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    bodies.lock().unwrap().push(body);
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
