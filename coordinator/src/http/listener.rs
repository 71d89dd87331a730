//! Accepts connections, with and without TLS, and gives each request to a warp service. Owns the limits that keep a
//! slow or hostile client from holding the coordinator up, and the orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::unread::SharedBody;
use crate::metrics::{self, Metrics};

/// Open connections of one listener. An agent keeps one all through its run.
const MAX_CONNECTIONS: u32 = 8_192;
/// From the connection to the end of the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// From the connection, or the last answer, to the end of a request's headers: also how long an idle connection lives.
const HEADER_LIMIT: Duration = Duration::from_mins(1);
/// The longest request line with its headers: as long as nginx takes all of them, since the cookies of a single sign-on in
/// front of us come along. No connection keeps more for reading, however much it sends.
const HEAD_LIMIT: usize = 32 * 1_024;
/// Pause after a failed accept, so that a lack of file descriptors does not turn into a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What requests under way may still take when the coordinator is told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Where answers are counted.
#[derive(Debug, Clone)]
pub struct Counted {
    /// As what.
    pub listener: metrics::Listener,
    /// By whom.
    pub metrics: Metrics,
}

/// Both ends of the connection a request came by; a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client.
    pub remote: SocketAddr,
    /// Our address as the client reached it.
    pub local: SocketAddr,
}

/// Serves `routes` until `stop` turns true, then lets requests under way finish.
pub async fn listen(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: BoxedFilter<(Response,)>,
    counted: Counted,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let (stream, remote) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // out of file descriptors, or a client gone already: neither ends the listener
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, routes, stop) = (acceptor.clone(), routes.clone(), stop.clone());
        let counted = counted.clone();
        tokio::spawn(async move {
            if let Err(error) = attend(stream, remote, acceptor, routes, counted, stop).await {
                tracing::debug!(%remote, %error, "a connection ended badly");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_LIMIT, permits.acquire_many(MAX_CONNECTIONS)).await.is_err() {
        tracing::warn!("some requests were still under way when the coordinator stopped");
    }
}

/// Ends when `stop` turns true, or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn attend(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    routes: BoxedFilter<(Response,)>,
    counted: Counted,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let connection = Connection { remote, local: stream.local_addr()? };
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else {
        return converse(stream, connection, routes, counted, stop).await;
    };
    let stream = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)) => {
            handshake.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??
        }
        () = stopped(&mut stop) => return Ok(()),
    };
    converse(stream, connection, routes, counted, stop).await
}

async fn converse<S>(
    stream: S,
    connection: Connection,
    routes: BoxedFilter<(Response,)>,
    counted: Counted,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection);
        // such a client sends the body only if it is asked to
        let waits = request.headers().contains_key(header::EXPECT);
        let request = request.map(SharedBody::new);
        let rest = request.body().clone();
        let (answering, counted) = (answering.call(request), counted.clone());
        async move {
            let mut answer = answering.await;
            if let Ok(answer) = &mut answer {
                counted.metrics.answered(counted.listener, answer.status());
                let is_read = if waits { rest.is_end_stream() } else { rest.read_to_its_end().await };
                if !is_read {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            }
            answer
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        // GRUB knows `Content-Length` in this spelling only, and without it waits for the connection's end
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    ended.map_err(std::io::Error::other)
}
