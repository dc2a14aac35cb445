//! Notices that a client is gone while its statement runs: nothing reads from its socket then.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a client that closes its socket has sent before may take so long: it did not wait for the answers.
const GRACE: Duration = Duration::from_millis(500);

/// A socket, and a second handle to watch it with.
pub fn watched(socket: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let watched = TcpStream::from_std(socket.try_clone()?)?;
    Ok((TcpStream::from_std(socket)?, watched))
}

/// Resolves some time after the client has closed its end.
pub async fn gone(socket: &TcpStream) {
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            break;
        }
        // What it has sent is left to be read by others: the next event is waited for.
        let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(socket.try_io(Interest::READABLE, blocked));
    }
    tokio::time::sleep(GRACE).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_client_is_gone_when_it_closes_and_not_when_it_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_socket, watched) = watched(listener.accept().await.unwrap().0).unwrap();
        client.write_all(b"not read").await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), gone(&watched)).await;
        assert!(waited.is_err(), "it is there");
        drop(client);
        gone(&watched).await;
    }
}
