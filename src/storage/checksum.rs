//! SHA-256 as we write it down: lowercase hex.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

/// The checksum of `bytes`, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all text");
    }
    text
}

/// Passes bytes on, in either direction, and keeps their count and checksum.
#[derive(Debug)]
pub struct Summed<T> {
    inner: T,
    sha256: Sha256,
    bytes: u64,
}

impl<T> Summed<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, sha256: Sha256::default(), bytes: 0 }
    }

    /// Bytes passed so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was wrapped, the count of bytes passed and their checksum in hex.
    pub fn finish(self) -> (T, u64, String) {
        (self.inner, self.bytes, hex(&self.sha256.finalize()))
    }

    fn add(&mut self, passed: &[u8]) {
        self.sha256.update(passed);
        self.bytes += passed.len() as u64;
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.add(&buffer[..count]);
        Ok(count)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.add(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
