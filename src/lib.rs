//! redlockd: distributed locks over HTTP, with fencing tokens, on a quorum of Redis or Valkey nodes.
//!
//! # The path of a request
//!
//! ```text
//! main → app → server → http → redlock → node → lease
//! ```
//!
//! Imports point this way only, and a request flows this way only.
//!
//! - [`lease`] decides. What votes add up to, what a ttl leaves, what a key may be: values and functions of
//!   their arguments, without IO, clock or randomness.
//! - [`node`] is one voting server with one verb, *apply a batch of commands*. [`node::State`] says what a
//!   node does; the embedded node makes it durable, the Redis node is the same in Lua. A queue in front of
//!   each node turns the commands of concurrent requests into batches.
//! - [`redlock`] asks a majority first and the others if need be, stops at the verdict, and finishes or undoes what
//!   was begun, whatever becomes of the request.
//! - [`auth`] finds out who asks; a handler gets a lock's name only together with the permission to act on it.
//! - [`http`] maps the path to a lock and the method to a verb, and every refusal to a problem document.
//! - [`server`] lets connections in, over TLS or in the open, as many as there is room for.
//! - [`app`] builds all of it from a [`config`] and runs it until it is told to drain.
//!
//! Beside the path stand [`metrics`], one struct with every series; [`audit`], who did what to which lock; [`diagnosis`],
//! what is weak or unsafe about the nodes; [`trace`], what a request
//! and the calls for it took; [`telemetry`], where logs and traces go; [`followed`] and [`pem`], files that change and what certificates are in; and
//! the subcommands: [`exec`], [`doctor`], [`bench`], [`healthcheck`].
//!
//! # The protocol
//!
//! N independent nodes, a majority of which decides. A **ballot** is microseconds since 1970 by the median of
//! the nodes' clocks; the ballot of a grant is its **fencing token**.
//!
//! - *Acquire.* Each node, in one atomic step, refuses a ballot that is not above every ballot it accepted for
//!   this lock, or is further than the window W from its own clock; refuses while another lease holds the lock;
//!   otherwise writes lock and fence. Q acceptances of one ballot are a grant. If some nodes had seen a higher
//!   ballot the attempt goes on above it, three rounds at most. In the usual case it is one round trip.
//! - *A majority first.* An acquire goes to Q nodes that are likely to answer at once; if they don't grant it, or take
//!   unusually long, to the others as well. These get their copy of a granted lease a moment later, and none at all if
//!   it was released by then. To the protocol the messages that were not sent are messages that were lost.
//! - *Tokens grow.* Two grants share a node, and a node's accepted ballots of a lock only grow, so a token that
//!   was granted later is greater. This needs no timing at all from clients, gateways or the network.
//! - *Leases exclude each other.* A grant's validity ends before the records of its majority do: ttl minus a
//!   hundredth for clock rates, minus 2 ms, counted from before the first send.
//! - *Epoch and quarantine.* A node keeps a marker with the identity of its process. Whatever may have lost
//!   memory (a restart, FLUSHALL, a raised generation) gets a new marker and does not vote until every lease and
//!   ballot that it may have known is over. Every script compares the marker first.
//! - *Repeats.* The same lease id gets the same lease and token again. A record that was told to a repeat
//!   becomes *firm*: the cancel of a failed attempt, which names the attempt, can't free it.
//! - *Undoing.* A lost attempt is cancelled on every node that accepted or was silent; the cancel leaves a
//!   raised fence, so an acquire that it overtook is refused. It is retried until the record has expired.
//! - *Fences don't pile up.* A fence expires once the window alone refuses what it refused; a node's memory
//!   follows the traffic of the last second.
//!
//! # Invariants
//!
//! - `lease` imports nothing of ours and does no IO.
//! - Votes are counted by distinct node, per round and per ballot; `Accepted` and `Mine` are never added up.
//! - A silent node may have said yes: it counts as a fault and is undone like a grant.
//! - No lock is held over a node's permit while waiting for another's.
//! - Lease ids and passwords reach no log, metric, error or URL that we print.

pub mod app;
pub mod audit;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod config;
pub mod diagnosis;
pub mod doctor;
pub mod exec;
pub mod followed;
pub mod healthcheck;
pub mod http;
mod http_client;
pub mod lease;
pub mod metrics;
pub mod node;
pub mod pem;
pub mod redlock;
pub mod server;
pub mod telemetry;
pub mod trace;
