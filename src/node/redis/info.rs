//! The answer of `INFO`, and what of the configuration goes with it, as facts.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;

use super::connection::connect_fault;
use crate::node::{Fault, NodeFacts, Persistence};

/// Asks a server about itself; what takes a look into its configuration, only if that matters: not everybody may look.
pub async fn facts(redis: &mut MultiplexedConnection, with_configuration: bool) -> Result<NodeFacts, Fault> {
    let text: String = redis::cmd("INFO").query_async(redis).await.map_err(|error| connect_fault(&error))?;
    let info = Info::parse(&text);
    Ok(NodeFacts { persistence: persistence(redis, &info, with_configuration).await, ..info.facts() })
}

/// Whether every change is on disk before it is answered.
async fn persistence(redis: &mut MultiplexedConnection, info: &Info<'_>, with_configuration: bool) -> Persistence {
    if info.get("aof_enabled") != "1" {
        return Persistence::Some;
    }
    if !with_configuration || info.get("aof_rewrite_in_progress") != "0" || info.get("aof_rewrite_scheduled") != "0" {
        return Persistence::Unknown;
    }
    let mut read = async |name: &str| -> Option<String> {
        let pair: Vec<String> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(redis).await.ok()?;
        pair.into_iter().nth(1)
    };
    match (read("appendfsync").await.as_deref(), read("no-appendfsync-on-rewrite").await.as_deref()) {
        (Some("always"), Some("no")) => Persistence::EveryChange,
        (Some(_), Some(_)) => Persistence::Some,
        _ => Persistence::Unknown,
    }
}

struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    fn get(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_default()
    }

    fn facts(&self) -> NodeFacts {
        let limit = self.number("maxmemory");
        NodeFacts {
            version: self.version(),
            run_id: self.get("run_id").to_owned(),
            mode: self.mode().to_owned(),
            role: self.get("role").to_owned(),
            eviction: self.get("maxmemory_policy").to_owned(),
            persistence: Persistence::Unknown,
            replicas: self.number("connected_slaves") as u32,
            evicted: self.number("evicted_keys"),
            followed: Some(self.get("master_replid2")).filter(|id| id.bytes().any(|byte| byte != b'0')).map(str::to_owned),
            memory_percent: (0 < limit).then(|| self.number("used_memory") * 100 / limit),
        }
    }

    /// Valkey 9 gave the field a name of its own.
    fn mode(&self) -> &'a str {
        Some(self.get("redis_mode")).filter(|mode| !mode.is_empty()).unwrap_or(self.get("server_mode"))
    }

    fn version(&self) -> String {
        match (self.get("server_name"), self.get("valkey_version"), self.get("redis_version")) {
            ("valkey", version, _) if !version.is_empty() => format!("Valkey {version}"),
            (_, _, version) => format!("Redis {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_read_under_the_name_that_each_server_gives_it() {
        for name in ["redis_mode", "server_mode"] {
            for (mode, is_fit) in [("standalone", true), ("cluster", false), ("sentinel", false)] {
                let text = format!("# Server\r\n{name}:{mode}\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n");
                assert_eq!(Info::parse(&text).facts().unfit().is_none(), is_fit, "{name}:{mode}");
            }
        }
    }

    #[test]
    fn facts_are_read_by_name() {
        let text = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nrun_id:ab\r\nmaxmemory:1000\r\nused_memory:420\r\nevicted_keys:3\r\nconnected_slaves:2\r\n";
        let facts = Info::parse(text).facts();
        assert_eq!((facts.version.as_str(), facts.run_id.as_str()), ("Valkey 9.1.2", "ab"));
        assert_eq!((facts.memory_percent, facts.evicted, facts.replicas), (Some(42), 3, 2));
        assert_eq!(Info::parse("maxmemory:0\r\nused_memory:420").facts().memory_percent, None);
    }
}
