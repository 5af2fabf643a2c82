//! What the tests stand on: real servers, clocks that can be set, and nodes on both.

mod caller;
mod chance;
mod frozen_clock;
mod gateway;
mod http_client;
mod nodes;
mod proxy;
mod redis_server;
mod router;
mod wait;

pub use caller::{Caller, lock_key};
pub use chance::Chance;
pub use frozen_clock::FrozenClock;
pub use gateway::{Gateway, redlockd};
pub use http_client::{HttpAnswer, HttpClient};
pub use nodes::{Subject, agreement, embedded_node, first_probe, lone_clock, redis_node};
pub use proxy::Proxy;
pub use redis_server::RedisServer;
pub use router::{Asking, RouterAnswer, TestRouter};
pub use wait::{eventually, eventually_async};
