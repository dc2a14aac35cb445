//! Objects as `std::io` streams: an encoder or decoder runs on a separate thread while the bytes go to or
//! come from the store in chunks, so memory stays bounded for objects of any size.

use std::io::{self, Read, Write};
use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

use super::{Storage, StorageError};
use crate::ambient;

const CHUNK_BYTES: usize = 1 << 20;
const CHUNKS_WAITING_MAX: usize = 4;

/// The bytes of an object that is being fetched.
#[derive(Debug)]
pub struct ChunkReader {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

/// The bytes of an object that is being written.
#[derive(Debug)]
pub struct ChunkWriter {
    chunks: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl ChunkReader {
    /// A reader, and the sender of its chunks.
    pub fn of_chunks() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
        (sender, Self { chunks, current: Bytes::new() })
    }
}

impl Storage {
    /// Writes a new object with the bytes that `encode` writes on a separate thread.
    ///
    /// # Errors
    /// The outer error is the storage's; the inner one is that of `encode`. The object exists only
    /// if there is neither.
    pub async fn write_with<T, E>(
        &self,
        path: &Path,
        encode: impl FnOnce(&mut ChunkWriter) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, StorageError>
    where
        T: Send + 'static,
        E: From<io::Error> + Send + 'static,
    {
        let object = self.writer(path).await?;
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
        let encoder = ambient::blocking(move || {
            let mut writer = ChunkWriter { chunks: sender, buffer: BytesMut::new() };
            let result = encode(&mut writer)?;
            writer.send()?;
            Ok(result)
        });
        let store = async {
            // The encoder ends once the receiver of its chunks is dropped.
            let (mut object, mut chunks) = (object, chunks);
            while let Some(chunk) = chunks.recv().await {
                object.write(chunk).await?;
            }
            Ok::<_, StorageError>(object)
        };
        let (stored, encoded) = futures::join!(store, encoder);
        let object = stored?;
        match self.joined(path, encoded)? {
            Ok(result) => object.finish().await.map(|()| Ok(result)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Passes the bytes in `range` to `decode`, which runs on a separate thread.
    ///
    /// # Errors
    /// The outer error is the storage's; the inner one is that of `decode`.
    pub async fn read_with<T, E>(
        &self,
        path: &Path,
        range: Range<u64>,
        decode: impl FnOnce(ChunkReader) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, StorageError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (sender, reader) = ChunkReader::of_chunks();
        let decoder = ambient::blocking(move || decode(reader));
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + CHUNK_BYTES as u64);
            let chunk = self.get_range(path, start..end).await?;
            if sender.send(chunk).await.is_err() {
                break; // the decoder stopped reading
            }
            start = end;
        }
        drop(sender);
        self.joined(path, decoder.await)
    }

    fn joined<T>(
        &self,
        path: &Path,
        joined: Result<T, tokio::task::JoinError>,
    ) -> Result<T, StorageError> {
        joined.map_err(|e| StorageError::io("process", self.name_of(path), e))
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            // Takes a chunk that is there already without blocking.
            let chunk = match self.chunks.try_recv() {
                Err(TryRecvError::Empty) => self.chunks.blocking_recv(),
                Err(TryRecvError::Disconnected) => None,
                Ok(chunk) => Some(chunk),
            };
            match chunk {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl ChunkWriter {
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        let sent = match self.chunks.try_send(chunk) {
            Err(TrySendError::Full(chunk)) => self.chunks.blocking_send(chunk).is_ok(),
            sent => sent.is_ok(),
        };
        let given_up = || io::Error::new(io::ErrorKind::BrokenPipe, "the object was given up");
        sent.then_some(()).ok_or_else(given_up)
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
