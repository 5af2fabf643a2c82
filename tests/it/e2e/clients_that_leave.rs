//! Requests whose client or whose answers are gone: nothing is left behind.

use super::{PATIENT, granted, machine_to_itself, records_on, redis_servers};
use crate::support::{Gateway, Proxy, RedisServer, eventually};

/// Long enough that nothing here ends by itself, and that a call of five seconds is allowed.
const TARGET: &str = "/locks/left?ttl=5m&lease_id=chosen-by-the-client";
/// What occurs in every request that is about the lock.
const RECORD: &str = "redlockd:lock:left";
const IN_FLIGHT: &str = "redlockd_http_requests_in_flight";

/// Three servers behind proxies, and a gateway on these.
fn behind_proxies(arguments: &[&str]) -> ([RedisServer; 3], [Proxy; 3], Gateway) {
    let servers = redis_servers::<3>();
    let proxies = std::array::from_fn(|index| Proxy::before(&servers[index]));
    let gateway = on_proxies(&proxies, arguments);
    (servers, proxies, gateway)
}

fn on_proxies(proxies: &[Proxy], arguments: &[&str]) -> Gateway {
    let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    Gateway::on_urls(urls.iter().map(String::as_str), arguments)
}

fn until_nothing_is_left(servers: &[RedisServer]) {
    eventually("no node holds the lock", || (records_on(servers, "left") == 0).then_some(()));
}

/// Lets the gateway have a connection to every server, so that a request reaches one that was paused in the meantime.
fn connect_to_all(gateway: &Gateway, servers: &[RedisServer]) {
    granted(gateway, "/locks/first");
    eventually("every node was asked", || (records_on(servers, "first") == servers.len()).then_some(()));
}

/// Waits until so many cancels could not be delivered yet.
fn until_so_many_wait(gateway: &Gateway, count: usize) {
    let waiting = || gateway.metric("redlockd_undo_waiting") as usize;
    eventually(&format!("{count} cancels wait"), || (waiting() == count).then_some(()));
}

#[test]
fn a_client_that_hangs_up_before_the_verdict_leaves_nothing_behind() {
    let _machine = machine_to_itself();
    let (servers, proxies, gateway) = behind_proxies(PATIENT);
    proxies.iter().for_each(|proxy| proxy.hold_reply_to(RECORD));
    let mut client = gateway.client();
    client.send("POST", TARGET, &[]).unwrap();
    eventually("every node holds the lock", || (records_on(&servers, "left") == 3).then_some(()));
    drop(client);
    eventually("the gateway notices", || (gateway.metric(IN_FLIGHT) == 0.0).then_some(()));
    proxies.iter().for_each(Proxy::let_go);
    until_nothing_is_left(&servers);
}

#[test]
fn a_client_that_hangs_up_while_a_majority_is_paused_leaves_nothing_behind() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<5>();
    let gateway = Gateway::on(&servers, PATIENT);
    connect_to_all(&gateway, &servers);
    let widened = || gateway.metric("redlockd_acquire_widened_total");
    // On a busy machine the first request may have been slow enough to be one of them.
    let before = widened();
    servers[..3].iter().for_each(RedisServer::pause);
    let mut client = gateway.client();
    client.send("POST", TARGET, &[]).unwrap();
    eventually("the others hold the lock", || (records_on(&servers[3..], "left") == 2).then_some(()));
    eventually("all were asked", || (before < widened()).then_some(()));
    drop(client);
    until_so_many_wait(&gateway, 3);
    servers[..3].iter().for_each(RedisServer::resume);
    gateway.until_nodes_are("up", 5);
    until_nothing_is_left(&servers);
    until_so_many_wait(&gateway, 0);
    assert_eq!(records_on(&servers, "left"), 0);
    granted(&gateway, "/locks/left");
}

#[test]
fn replies_that_are_lost_after_their_effect_are_undone_and_the_request_may_be_repeated() {
    let _machine = machine_to_itself();
    let (servers, proxies, gateway) = behind_proxies(PATIENT);
    proxies[..2].iter().for_each(|proxy| proxy.lose_reply_to(RECORD));
    let lost = gateway.post(TARGET);
    assert_eq!(lost.problem(), (503, "indeterminate".into()));
    assert_eq!(proxies.each_ref().map(Proxy::lost), [1, 1, 0]);
    until_nothing_is_left(&servers);
    gateway.post(TARGET).ok();
}

#[test]
fn the_undoing_of_a_lost_attempt_spares_what_its_repeat_was_granted() {
    let _machine = machine_to_itself();
    let (servers, proxies, gateway) = behind_proxies(PATIENT);
    proxies[..2].iter().for_each(|proxy| proxy.lose_reply_to(RECORD));
    assert_eq!(gateway.post(TARGET).problem(), (503, "indeterminate".into()));
    let repeated = gateway.post(TARGET).ok();
    until_so_many_wait(&gateway, 0);
    assert!(2 <= records_on(&servers, "left"));
    assert_eq!(super::token_of_holder(&gateway, "left"), Some(repeated.number("fencing_token")));
}

#[test]
fn a_gateway_that_is_told_to_stop_undoes_first() {
    let _machine = machine_to_itself();
    let (servers, proxies, mut gateway) = behind_proxies(PATIENT);
    proxies.iter().for_each(|proxy| proxy.hold_reply_to(RECORD));
    let mut client = gateway.client();
    client.send("POST", TARGET, &[]).unwrap();
    eventually("every node holds the lock", || (records_on(&servers, "left") == 3).then_some(()));
    drop(client);
    eventually("the gateway notices", || (gateway.metric(IN_FLIGHT) == 0.0).then_some(()));
    gateway.interrupt();
    eventually("it listens no more", || gateway.client().send("GET", "/livez", &[]).is_err().then_some(()));
    proxies.iter().for_each(Proxy::let_go);
    assert!(gateway.wait_exit().success(), "{}", gateway.log());
    assert_eq!(records_on(&servers, "left"), 0, "{}", gateway.log());
}

#[test]
fn a_gateway_that_is_told_to_stop_waits_for_nodes_that_could_not_be_told() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let mut gateway = Gateway::on(&servers, &["--grace=1m"]);
    connect_to_all(&gateway, &servers);
    servers[..2].iter().for_each(RedisServer::pause);
    assert_eq!(gateway.post(TARGET).problem(), (503, "indeterminate".into()));
    until_so_many_wait(&gateway, 2);
    gateway.interrupt();
    eventually("it listens no more", || gateway.client().send("GET", "/livez", &[]).is_err().then_some(()));
    servers[..2].iter().for_each(RedisServer::resume);
    assert!(gateway.wait_exit().success(), "{}", gateway.log());
    assert_eq!(records_on(&servers, "left"), 0, "{}", gateway.log());
}
