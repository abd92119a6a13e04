//! The socket side of the API. Connections, request heads and shutdown are bounded here, because
//! nothing below a handler can bound them.

use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{ApiState, Deadlines, router};

mod taken;

use taken::Taken;

/// Open connections: the claims that may wait, and room for everybody else. One more waits in the
/// listener's backlog.
const CONNECTIONS_MAX: usize = 12_000;
/// A request's head fits into this, or is answered 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// After a failure to accept (no more file descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `state.stop`, over TLS where there is an acceptor; returns once every
/// request under way has its answer.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: ApiState) {
    let (stop, deadlines) = (state.stop.clone(), state.deadlines);
    serve_router(listener, tls, router(state), deadlines, stop).await;
}

/// The same for any routes.
pub async fn serve_router(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: axum::Router,
    deadlines: Deadlines,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some(place) = or_stopped(&stop, places.clone().acquire_owned()).await {
        let accepted = match or_stopped(&stop, listener.accept()).await {
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                warn!(%error, "accepting a connection failed, trying again: {error}");
                or_stopped(&stop, tokio::time::sleep(ACCEPT_PAUSE)).await;
                continue;
            }
            None => break,
        };
        let (service, stop, tls) = (service.clone(), stop.clone(), tls.clone());
        connections.spawn(async move {
            serve_accepted(accepted, tls, service, deadlines, stop).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn or_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(work).await
}

async fn serve_accepted(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: TowerToHyperService<axum::Router>,
    deadlines: Deadlines,
    stop: CancellationToken,
) {
    // An answer is written whole: waiting for more to send only delays it.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set: {error}");
    }
    let stream = Taken::new(stream, deadlines.stalled);
    let Some(tls) = tls else {
        return serve_connection(stream, service, deadlines, stop).await;
    };
    let handshake = tokio::time::timeout(deadlines.handshake, tls.accept(stream));
    match or_stopped(&stop, handshake).await {
        Some(Ok(Ok(stream))) => serve_connection(stream, service, deadlines, stop).await,
        Some(Ok(Err(error))) => debug!(%error, "a TLS handshake failed: {error}"),
        Some(Err(_)) => debug!("a TLS handshake took too long"),
        None => {}
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    service: TowerToHyperService<axum::Router>,
    deadlines: Deadlines,
    stop: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended: {error}");
    }
}
