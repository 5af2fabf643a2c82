//! The body of a grant: a client that is gone before its answer is taken leaves nothing behind.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::audit::Deed;
use crate::redlock::Acquired;

/// Keeps the lease at the moment the server takes the answer to write it; dropped before that, the lease is undone.
pub struct GrantBody {
    answer: Option<(Bytes, Acquired, Deed)>,
}

impl GrantBody {
    pub fn new(json: Bytes, acquired: Acquired, deed: Deed) -> Self {
        Self { answer: Some((json, acquired, deed)) }
    }
}

impl Body for GrantBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.answer.take().map(|(json, acquired, mut deed)| {
            acquired.keep();
            deed.outcome = "granted";
            Ok(Frame::data(json))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.answer.as_ref().map_or(0, |(json, ..)| json.len() as u64))
    }
}
