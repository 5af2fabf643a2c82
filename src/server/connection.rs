//! One connection: whose it is, and the place that it has.

use std::convert::identity;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::Request;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::Response;
use futures_util::future::{Either, MapOk, Ready, TryFutureExt, ready};
use tower::Service;

use super::places::Place;
use crate::auth::Peer;
use crate::http::{Wire, is_watching, too_many_connections};
use crate::metrics::Metrics;

/// The service behind one connection. Tells every request from where it came.
#[derive(Clone)]
pub struct Connection<S> {
    service: S,
    shared: Arc<Shared>,
}

/// Ends with the connection.
struct Shared {
    place: Place,
    peer: Peer,
    /// When the first head is late.
    late: Instant,
    was_asked: AtomicBool,
    wire: Wire,
    metrics: Arc<Metrics>,
}

impl<S> Connection<S> {
    pub fn new(service: S, place: Place, peer: Peer, wire: Wire, first_head: Duration, metrics: Arc<Metrics>) -> Self {
        let (late, was_asked) = (Instant::now() + first_head, AtomicBool::new(false));
        Self { service, shared: Arc::new(Shared { place, peer, late, was_asked, wire, metrics }) }
    }
}

impl<S, B> Service<Request<B>> for Connection<S>
where
    S: Service<Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<MapOk<S::Future, fn(Response) -> Response>, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        self.shared.was_asked.store(true, Ordering::Relaxed);
        let end: fn(Response) -> Response = match self.shared.place.is_over {
            None => identity,
            Some(_) if is_watching(request.uri().path()) => closing,
            Some(max) => {
                self.shared.metrics.limit_hit("connections");
                return Either::Right(ready(Ok(closing(too_many_connections(max)))));
            }
        };
        request.extensions_mut().insert(self.shared.peer.clone());
        request.extensions_mut().insert(self.shared.wire.clone());
        Either::Left(self.service.call(request).map_ok(end))
    }
}

/// Makes room for the next who is over the bound.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !*self.was_asked.get_mut() && self.late <= Instant::now() {
            self.metrics.limit_hit("first_head_time");
        }
    }
}
