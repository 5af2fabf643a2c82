//! What goes wrong in a run, and its mending at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::scenario::Fault;
use super::server::{Data, Server};
use super::world::World;

/// Lets faults happen until the run is over, then mends them all.
pub async fn inject(world: Arc<World>) {
    let mut running = Vec::new();
    while !world.is_over() && !world.scenario.faults.is_empty() {
        let every_ms = world.scenario.fault_every.as_millis() as u64;
        let wait = Duration::from_millis(1 + world.chance().below(2 * every_ms));
        sleep(wait).await;
        let fault = world.chance().pick(&world.scenario.faults);
        world.history().add_faults(1);
        running.push(tokio::spawn(happen(Arc::clone(&world), fault)));
    }
    for fault in running {
        fault.await.unwrap();
    }
}

async fn happen(world: Arc<World>, fault: Fault) {
    let index = world.chance().below(world.servers.len() as u64) as usize;
    let server = Arc::clone(&world.servers[index]);
    let longest_ms = world.scenario.agreement.quarantine().as_millis() as u64;
    let some_time = Duration::from_millis(1 + world.chance().below(longest_ms));
    match fault {
        Fault::CrashEmpty if !server.is_durable() => crash(&server, some_time, Data::None).await,
        Fault::CrashOld if !server.is_durable() => {
            server.save();
            sleep(some_time).await;
            crash(&server, some_time / 4, Data::Old).await;
        }
        Fault::CrashDurable if server.is_durable() => crash(&server, some_time, Data::All).await,
        Fault::CrashEmpty | Fault::CrashOld | Fault::CrashDurable => {}
        Fault::Flush => server.flush(),
        Fault::Pause => server.pause(some_time),
        Fault::Cut => {
            let gateway = world.some_gateway();
            let ways = world.chance().pick(&[(true, false), (false, true), (true, true)]);
            gateway.links[index].cut(ways.0, ways.1);
            sleep(some_time).await;
            gateway.links[index].cut(false, false);
        }
        Fault::GatewayCrash => {
            let which = world.chance().below(world.scenario.gateways as u64) as usize;
            world.gateways()[which].die();
            let next = world.start_gateway(false).await;
            world.gateways()[which] = next;
        }
        Fault::Jump => jump(&world, some_time).await,
    }
}

async fn crash(server: &Server, down_for: Duration, with: Data) {
    if server.start().is_none() {
        return;
    }
    server.die();
    sleep(down_for).await;
    server.come_back(with);
}

/// Far more than a lease.
pub const FURTHEST_JUMP: Duration = Duration::from_secs(5);

/// Only the first servers' clocks jump, and they are a minority.
async fn jump(world: &World, until_it_is_set_right: Duration) {
    let jumpers = (world.servers.len() - 1) / 2;
    let server = &world.servers[world.chance().below(jumpers as u64) as usize];
    let window_us = world.scenario.agreement.window.as_micros() as u64;
    // From less than a window on.
    let furthest_us = world.chance().pick(&[window_us, 4 * window_us, FURTHEST_JUMP.as_micros() as u64]);
    let to_us = world.chance().below(2 * furthest_us + 1) as i64 - furthest_us as i64;
    server.set_clock(to_us);
    sleep(until_it_is_set_right).await;
    server.set_clock(0);
}
