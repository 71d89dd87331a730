//! What a route leaves of a request's body: it is read to its end before the answer goes, as far as that is quick.
//!
//! A route refuses many a request before it reads the body. If the connection were closed behind such an answer, a client
//! that still sends would find a broken connection in place of the answer, and one that sends its next request on it, too.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// More than this is not read for nothing.
const LIMIT_BYTES: u64 = 256 << 10;

/// Longer than this nobody is waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// A request's body, of which somebody else looks after the rest.
#[derive(Clone)]
pub struct SharedBody(Arc<Mutex<Incoming>>);

impl SharedBody {
    /// Takes it.
    pub fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is left. False: there is more than that, so that nothing can follow on this connection.
    pub async fn read_to_its_end(self) -> bool {
        if self.is_end_stream() {
            return true;
        }
        let reading = async {
            let (mut body, mut read) = (self, 0_u64);
            loop {
                match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                    None => return true,
                    Some(Err(_)) => return false,
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
                }
                if read > LIMIT_BYTES {
                    return false;
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.unwrap_or(false)
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}
