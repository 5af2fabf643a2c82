//! A TCP balancer, as stands in front of gateways: it sends new connections to those that say that they are ready.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::HttpClient;

/// Forwards connections, one gateway after the other. It stops to listen with this value.
pub struct Balancer {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
}

impl Balancer {
    pub fn before(gateways: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, closed, turn) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default(), AtomicUsize::new(0));
        let theirs = Arc::clone(&closed);
        std::thread::spawn(move || {
            for client in listener.incoming().take_while(|_| !theirs.load(Ordering::Relaxed)) {
                let first = turn.fetch_add(1, Ordering::Relaxed);
                let in_turn = (0..gateways.len()).map(|n| gateways[(first + n) % gateways.len()]);
                // Asked anew for every connection: a balancer that asks now and then needs the delay before draining, this one does not.
                if let (Ok(client), Some(gateway)) = (client, in_turn.into_iter().find(|gateway| is_ready(*gateway))) {
                    // A gateway that is gone in between is a connection that is closed.
                    let _ = TcpStream::connect(gateway).and_then(|gateway| join(client, gateway));
                }
            }
        });
        Self { address, closed }
    }

    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // Wakes the listener. It may be gone, which is as good.
        let _ = TcpStream::connect(self.address);
    }
}

fn is_ready(gateway: SocketAddr) -> bool {
    HttpClient::new(gateway).ask("GET", "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
}

/// Copies both ways until both have ended.
fn join(client: TcpStream, gateway: TcpStream) -> io::Result<()> {
    for stream in [&client, &gateway] {
        stream.set_nodelay(true)?;
    }
    for (from, to) in [(client.try_clone()?, gateway.try_clone()?), (gateway, client)] {
        std::thread::spawn(move || {
            let (mut from, mut to) = (from, to);
            // However it ends, the other side hears of it.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
