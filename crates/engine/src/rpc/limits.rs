//! Limits on callers of the meta role: the size of messages, by call, and the number of calls at once.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Maximum message size of a call that carries rows or many files.
pub const LARGE_BYTES_MAX: usize = 256 << 20;
/// Maximum message size of any other call: names and numbers.
pub const SMALL_BYTES_MAX: usize = 4 << 20;

/// The calls that carry rows within metadata, or as many files as a transaction wrote.
const LARGE_CALLS: [&str; 4] = ["Write", "ChangeCatalog", "CommitCompaction", "Report"];

/// Interval of keep-alive pings, and the timeout of each.
const PING_PAUSE: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum concurrent calls on one connection: a frontend has a few, whatever its clients do.
const CALLS_MAX: u32 = 256;
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Pause before connections are accepted again after a failure, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server with limits on connections.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(PING_PAUSE))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(CALLS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
}

/// Accepts connections. Pauses after a failure, since the error would come again at once.
pub fn accepted(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<tokio::net::TcpStream>> + Send {
    // Requests are small and a caller waits for each, so packets are not delayed.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    incoming.then(|accepted| async move {
        if accepted.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        accepted
    })
}

/// The same service twice, with different limits; each call goes to the one that suits it.
#[derive(Clone, Debug)]
pub struct BySize<S> {
    pub small: S,
    pub large: S,
}

impl<S: NamedService> NamedService for BySize<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<B>>, B> Service<http::Request<B>> for BySize<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.small.poll_ready(context) {
            Poll::Ready(Ok(())) => self.large.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        if is_large(request.uri().path()) {
            self.large.call(request)
        } else {
            self.small.call(request)
        }
    }
}

fn is_large(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(_, call)| LARGE_CALLS.contains(&call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_bring_rows_or_files_are_large() {
        assert!(is_large("/tidemark.meta.v1.Meta/Write"));
        assert!(is_large("/tidemark.meta.v1.Meta/CommitCompaction"));
        for path in ["/tidemark.meta.v1.Meta/AlterSystem", "/tidemark.meta.v1.Meta/Backup", "", "/"]
        {
            assert!(!is_large(path), "{path}");
        }
    }
}
