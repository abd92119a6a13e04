//! The socket side of the API. Connections, request heads and shutdown are bounded here, because
//! nothing below a handler can bound them.

use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{ApiState, router};

/// Open connections: the claims that may wait, and room for everybody else. One more waits in the
/// listener's backlog.
const CONNECTIONS_MAX: usize = 12_000;
/// A request's head fits into this, or is answered 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// After a failure to accept (no more file descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `state.stop`; returns once every request under way has its answer.
pub async fn serve(listener: TcpListener, state: ApiState) {
    let (stop, head_read_max) = (state.stop.clone(), state.deadlines.head);
    let service = TowerToHyperService::new(router(state));
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
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(accepted, service, head_read_max, stop).await;
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

async fn serve_connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    head_read_max: Duration,
    stop: CancellationToken,
) {
    // An answer is written whole: waiting for more to send only delays it.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set: {error}");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_read_max)
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
