//! A TCP proxy in front of a server, which can keep replies back, lose or break one after its effect, and be cut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::RedisServer;

/// Forwards everything, unless told otherwise. It stops to listen with this value.
pub struct Proxy {
    address: SocketAddr,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    given: Mutex<Given>,
    changed: Condvar,
}

/// What becomes of the next reply on a connection.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Passes,
    /// It waits, and what comes after it.
    IsHeld,
    /// Its connection is cut instead.
    IsLost,
    /// Half of it arrives, then its connection is cut.
    IsBroken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Reply,
}

#[derive(Default)]
struct Given {
    /// The fate of the reply to the next request that contains this.
    next: Option<(String, Fate)>,
    let_go: bool,
    /// What goes this way vanishes, and the connection with it once that ends.
    loses_requests: bool,
    loses_replies: bool,
    lost: usize,
    closed: bool,
}

impl Proxy {
    pub fn before(server: &RedisServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, orders, server) = (listener.local_addr().unwrap(), Arc::<Orders>::default(), server.port());
        let theirs = Arc::clone(&orders);
        std::thread::spawn(move || {
            for client in listener.incoming().take_while(|_| !theirs.given().closed) {
                // A server that is down looks down through the proxy.
                let _ = client.and_then(|client| join(client, TcpStream::connect(("127.0.0.1", server))?, &theirs));
            }
        });
        Self { address, orders }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Holds one reply back, that to the next request in which `text` occurs, until it is [let go](Proxy::let_go).
    pub fn hold_reply_to(&self, text: &str) {
        self.orders.given().next = Some((text.to_owned(), Fate::IsHeld));
    }

    pub fn let_go(&self) {
        self.orders.given().let_go = true;
        self.orders.changed.notify_all();
    }

    /// Loses one reply: that to the next request in which `text` occurs.
    pub fn lose_reply_to(&self, text: &str) {
        self.orders.given().next = Some((text.to_owned(), Fate::IsLost));
    }

    /// Breaks one reply in the middle: that to the next request in which `text` occurs.
    pub fn break_reply_to(&self, text: &str) {
        self.orders.given().next = Some((text.to_owned(), Fate::IsBroken));
    }

    /// From now on what goes these ways vanishes, as in a partition. Connections that lost something don't outlive it.
    pub fn cut(&self, requests: bool, replies: bool) {
        let mut given = self.orders.given();
        (given.loses_requests, given.loses_replies) = (requests, replies);
    }

    /// How many replies it has lost.
    pub fn lost(&self) -> usize {
        self.orders.given().lost
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders.given().closed = true;
        self.let_go();
        // Wakes the listener. It may be gone, which is as good.
        let _ = TcpStream::connect(self.address);
    }
}

impl Orders {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap()
    }

    /// What becomes of the reply to this request, if that was ordered.
    fn fate_of_reply_to(&self, request: &[u8]) -> Option<Fate> {
        let contains = |text: &str| request.windows(text.len()).any(|part| part == text.as_bytes());
        self.given().next.take_if(|(text, _)| contains(text)).map(|(_, fate)| fate)
    }

    /// Whether a reply goes on to the client, in the end.
    fn passes(&self, fate: Fate) -> bool {
        if fate == Fate::IsHeld {
            drop(self.changed.wait_while(self.given(), |given| !given.let_go).unwrap());
        }
        self.given().lost += usize::from(fate == Fate::IsLost);
        fate != Fate::IsLost
    }

    fn way_is_cut(&self, way: Way) -> bool {
        let given = self.given();
        if way == Way::Request { given.loses_requests } else { given.loses_replies }
    }
}

/// Two threads for a connection, one for each way.
fn join(client: TcpStream, server: TcpStream, orders: &Arc<Orders>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let fate = Arc::<Mutex<Fate>>::default();
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let (of_requests, of_replies) = ((Arc::clone(orders), Arc::clone(&fate)), (Arc::clone(orders), fate));
    std::thread::spawn(move || {
        let (orders, next) = of_requests;
        let cut = || orders.way_is_cut(Way::Request);
        forward(from_client, to_server, cut, |request| {
            orders.fate_of_reply_to(request).into_iter().for_each(|fate| *next.lock().unwrap() = fate);
            Passage::Whole
        })
    });
    std::thread::spawn(move || {
        let (orders, next) = of_replies;
        let cut = || orders.way_is_cut(Way::Reply);
        forward(server, client, cut, |_| {
            let fate = std::mem::take(&mut *next.lock().unwrap());
            match (orders.passes(fate), fate) {
                (false, _) => Passage::None,
                (true, Fate::IsBroken) => Passage::Half,
                (true, _) => Passage::Whole,
            }
        })
    });
    Ok(())
}

/// How much of what just came may pass.
#[derive(PartialEq, Eq)]
enum Passage {
    Whole,
    Half,
    None,
}

/// Until either side closes, something did not pass whole, or a cut that swallowed something is over.
fn forward(mut from: TcpStream, mut to: TcpStream, is_cut: impl Fn() -> bool, mut passage: impl FnMut(&[u8]) -> Passage) {
    let mut buffer = vec![0; 64 * 1024];
    let mut swallowed = false;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if is_cut() {
            swallowed = true;
            continue;
        }
        let passage = passage(&buffer[..length]);
        let passes = if passage == Passage::Half { length / 2 } else { length };
        if swallowed || passage == Passage::None || to.write_all(&buffer[..passes]).is_err() || passage == Passage::Half {
            break;
        }
    }
    // The other side may have closed first.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
