//! A new version is rolled out: one gateway after the other stops and starts while clients work through a balancer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{PATIENT, machine_to_itself, redis_servers};
use crate::support::{Balancer, Ends, Gateway, HttpAnswer, HttpClient, eventually};

/// Asks over a connection that is kept as long as the gateway keeps it.
fn ask(client: &mut HttpClient, method: &str, target: &str, lease: &str) -> HttpAnswer {
    let answer = client.ask(method, target, &[("Lease-Id", lease)]).unwrap_or_else(|error| panic!("{method} {target}: {error}"));
    if answer.header("connection") == Some("close") {
        client.hang_up();
    }
    answer
}

/// Takes the lock, asking again as often as a gateway says that it is shutting down.
fn acquire(client: &mut HttpClient, target: &str, lease: &str) {
    loop {
        let answer = ask(client, "POST", target, lease);
        if answer.status == 200 {
            return;
        }
        assert_eq!((answer.problem(), answer.header("retry-after")), ((503, "draining".into()), Some("1")));
    }
}

#[test]
fn no_request_fails_and_no_lease_is_lost_while_gateways_are_replaced() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let arguments: Vec<&str> = PATIENT.iter().copied().chain(["--drain-delay=1s"]).collect();
    let mut gateways: Vec<Gateway> = (0..2).map(|_| Gateway::on(&servers, &arguments).without_bootstrap()).collect();
    let balancer = Balancer::before(gateways.iter().map(Gateway::address).collect());
    let (is_over, cycles) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|index| {
                let (balancer, is_over, cycles) = (&balancer, &is_over, &cycles);
                scope.spawn(move || {
                    let (mut client, lease) = (balancer.client(), format!("lease-of-client-{index}"));
                    let kept = format!("/locks/kept/{index}");
                    acquire(&mut client, &kept, &lease);
                    while !is_over.load(Ordering::Relaxed) {
                        let own = format!("/locks/own/{index}");
                        acquire(&mut client, &own, &lease);
                        ask(&mut client, "PUT", &kept, &lease).ok();
                        assert_eq!(ask(&mut client, "DELETE", &own, &lease).ok().json()["released"], true);
                        cycles.fetch_add(1, Ordering::Relaxed);
                    }
                    assert_eq!(ask(&mut client, "DELETE", &kept, &lease).ok().json()["released"], true);
                })
            })
            .collect();
        let _end = Ends(&is_over);
        let some_more = || {
            let so_far = cycles.load(Ordering::Relaxed);
            let ended = || clients.iter().any(|client| client.is_finished());
            eventually("clients work", || (so_far + 100 < cycles.load(Ordering::Relaxed) || ended()).then_some(()));
        };
        for gateway in &mut gateways {
            some_more();
            gateway.terminate();
            assert_eq!(gateway.wait_exit().code(), Some(0), "{}", gateway.log());
            some_more();
            gateway.restart();
            gateway.until_nodes_are("up", 3);
        }
        some_more();
    });
    println!("rollout: {} cycles of 4 clients while 2 gateways were replaced, 0 failed requests, 0 leases lost", cycles.into_inner());
}
