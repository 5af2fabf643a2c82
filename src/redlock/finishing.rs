//! Work that is finished whether or not somebody waits for it: a handler is dropped when its client goes away.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::trace::carry;

/// Polls a future in place, which costs no task as long as it is awaited; dropped before the end it goes on in one of its own.
pub struct Finishing<T: 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: 'static> Finishing<T> {
    pub fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(carry(work))))
    }
}

impl<T: 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut work = self.0.take().expect("it is not polled after its end");
        let polled = work.as_mut().poll(context);
        // Where it panics there is nothing to finish.
        self.0 = polled.is_pending().then_some(work);
        polled
    }
}

impl<T: 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        // Where the runtime ends as well there is nobody left to finish it.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move { drop(work.await) });
        }
    }
}
