//! What the tests stand on: real servers, clocks that can be set, and nodes on both.

mod balancer;
mod caller;
mod certificates;
mod chance;
mod collector;
mod event_stream;
mod gateway;
mod http_client;
mod machine;
mod nodes;
mod proxy;
mod redis_server;
mod router;
mod test_clock;
mod wait;

pub use balancer::Balancer;
pub use caller::{Caller, lock_key};
pub use certificates::{Authority, CertificateFiles};
pub use chance::Chance;
pub use collector::{Collector, attribute};
pub use event_stream::EventStream;
pub use gateway::{Gateway, redlockd};
pub use http_client::{HttpAnswer, HttpClient};
pub use machine::{machine_to_itself, number_from};
pub use nodes::{Subject, agreement, embedded_node, first_probe, lone_clock, redis_node, redis_node_that};
pub use proxy::Proxy;
pub use redis_server::RedisServer;
pub use router::{Asking, RouterAnswer, TestRouter};
pub use test_clock::TestClock;
pub use wait::{Ends, eventually, eventually_async};
