//! The program as a process, on real servers that die, pause and return.

mod addresses;
mod audit;
mod bounds;
mod clients_that_leave;
mod command_line;
mod doctor;
mod embedded_restart;
mod exec;
mod fenced_write;
mod fuzz;
mod holding;
mod json_web_tokens;
mod least_privilege;
mod node_failures;
mod readme;
mod recipes;
mod rollout;
mod shutdown;
mod tls;
mod tokens;
mod traces;
mod two_gateways;
mod waiting;
mod watching;

use crate::support::{Gateway, HttpAnswer, RedisServer, eventually, machine_to_itself};

/// Calls may take five seconds, for tests that are not about time: a busy disk or machine is no failure of theirs.
const PATIENT: &[&str] = &["--node-timeout=5s", "--default-ttl=5m"];

/// Asks until it is granted, where calls have little time and a busy machine may answer too late.
fn granted(gateway: &Gateway, target: &str) -> HttpAnswer {
    eventually("the lock is granted", || {
        let answer = gateway.post(target);
        assert!(matches!(answer.status, 200 | 423 | 503), "{answer:?}");
        (answer.status == 200).then_some(answer)
    })
}

fn redis_servers<const N: usize>() -> [RedisServer; N] {
    std::array::from_fn(|_| RedisServer::start())
}

/// The record of a lock, straight from a server.
fn record_on(server: &RedisServer, lock: &str) -> Option<String> {
    server.run(&["GET", &format!("redlockd:lock:{lock}")])
}

/// On how many servers there is a record of the lock.
fn records_on(servers: &[RedisServer], lock: &str) -> usize {
    servers.iter().filter(|server| record_on(server, lock).is_some()).count()
}

/// Who holds the lock, by its token.
fn token_of_holder(gateway: &Gateway, lock: &str) -> Option<u64> {
    gateway.get(&format!("/locks/{lock}")).ok().json()["holder"]["fencing_token"].as_u64()
}
