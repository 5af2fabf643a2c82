//! Bytes that no client would send. `TEST_FUZZ_SECONDS` says for how long, `TEST_SEED` repeats a run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Chance, Gateway, number_from};

const SECONDS: u64 = 5;
const THREADS: u64 = 8;
/// A request that was broken in the middle is waited for no longer: the gateway would wait for the rest of it.
const PATIENCE: Duration = Duration::from_millis(30);

/// Requests that are right, to begin with.
const SEEDS: &[&str] = &[
    "POST /locks/orders/42?ttl=30s&owner=worker-7 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "POST /locks/a?lease_id=0123456789abcdef HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: \"0123456789abcdef\"\r\n\r\n",
    "POST /locks/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"ttl\":\"1s\",\"owner\":\"äö\"} ",
    "POST /locks/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ttl\r\n8\r\n\":\"1s\"} \r\n0\r\n\r\n",
    "PUT /locks/a?ttl=1m HTTP/1.1\r\nHost: h\r\nConnection: close\r\nLease-Id: 0123456789abcdef\r\n\r\n",
    "DELETE /locks/gr%C3%B6%C3%9Fe HTTP/1.1\r\nHost: h\r\nConnection: close\r\nLease-Id: 0123456789abcdef\r\nFencing-Token: 1795448458771032\r\n\r\n",
    "GET /locks?prefix=o&limit=10&cursor=0.0.a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "GET /locks/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nPrefer: wait=10\r\n\r\n",
    "GET /nodes HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "GET /docs/ HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
];
/// What parsers stumble over.
const TOKENS: &[&str] = &[
    "\r\n",
    "\n",
    "\0",
    " ",
    "%",
    "%00",
    "%2F",
    "%ff",
    "..",
    "/",
    "?",
    "&",
    "=",
    ";",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "0",
    "-1",
    "1e9",
    "18446744073709551616",
    "9007199254740993",
    "ttl=",
    "30s",
    "1ns",
    "\u{202e}",
    "\u{fffd}",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Lease-Id: x\r\n",
    "HTTP/1.1",
    "HTTP/2.0",
    "GET ",
    "POST ",
];

fn broken(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = chance.pick(SEEDS).as_bytes().to_vec();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() as u64 + 1) as usize;
        match chance.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, chance.below(256) as u8),
            3 => drop(bytes.splice(at..at, chance.pick(TOKENS).bytes())),
            4 => bytes.truncate(at.max(1)),
            5 => {
                // A part of it again, perhaps very often.
                let end = at + chance.below((bytes.len() - at) as u64 + 1) as usize;
                let part = bytes[at..end].repeat(chance.pick(&[1, 2, 2000]).min(60_000 / (end - at).max(1)));
                drop(bytes.splice(at..at, part));
            }
            _ => {
                let other = chance.pick(SEEDS).as_bytes();
                let from = chance.below(other.len() as u64) as usize;
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    bytes
}

/// The status of the answer, if there was one.
fn status(address: SocketAddr, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("the gateway takes connections");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have answered and closed before it was sent everything.
    let _ = stream.write_all(request);
    let mut answer = [0; 32];
    let length = stream.read(&mut answer).ok()?;
    std::str::from_utf8(&answer[..length]).ok()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[test]
fn no_bytes_make_the_gateway_fail() {
    let (seconds, seed) = (number_from("TEST_FUZZ_SECONDS").unwrap_or(SECONDS), number_from("TEST_SEED").unwrap_or(1));
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let address = gateway.address();
    let begun = Instant::now();
    let work = |thread: u64| {
        let mut chance = Chance::new(seed * THREADS + thread);
        let mut answers = BTreeMap::<Option<u16>, usize>::new();
        while begun.elapsed() < Duration::from_secs(seconds) {
            let request = broken(&mut chance);
            let status = status(address, &request);
            assert!(
                status.is_none_or(|status| status < 500 || status == 501),
                "{status:?} to {:?}",
                String::from_utf8_lossy(&request[..request.len().min(500)])
            );
            *answers.entry(status).or_default() += 1;
        }
        answers
    };
    let mut answers = BTreeMap::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        for thread in running {
            thread.join().unwrap().into_iter().for_each(|(status, count)| *answers.entry(status).or_default() += count);
        }
    });
    let total: usize = answers.values().sum();
    println!("fuzz: {seconds} s, {total} requests, answers {answers:?}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    assert_eq!(gateway.post("/locks/after").status, 200);
    assert!(answers.get(&Some(200)).is_some_and(|count| 10 < *count) && 3 < answers.len(), "too much of one kind to mean anything");
}
