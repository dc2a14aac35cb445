//! SHA-256 checksums, serialized as lowercase hex, and JSON objects that end with theirs.

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A SHA-256, or none where it is not known. Serialized as hex, but kept as bytes since there are many.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Checksum(Option<[u8; 32]>);

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Some(Sha256::digest(bytes).into()))
    }

    pub fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// Parses 64 hex digits; an empty text is an unknown checksum.
    fn parse(hex: &str) -> Option<Self> {
        if hex.is_empty() {
            return Some(Self(None));
        }
        let digits: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value_of(pair[0])? << 4 | value_of(pair[1])?;
        }
        Some(Self(Some(bytes)))
    }
}

fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl From<[u8; 32]> for Checksum {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Some(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |bytes| f.write_str(&hex(&bytes)))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = self.0 else { return to.serialize_str("") };
        let mut digits = [0; 64];
        for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            two.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        to.serialize_str(str::from_utf8(&digits).expect("digits are text"))
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Hex;
        impl de::Visitor<'_> for Hex {
            type Value = Checksum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SHA-256 in lowercase hex")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Checksum, E> {
                Checksum::parse(text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_str(Hex)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The checksum of `bytes`, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The text before and after a checksum that is the last field of a JSON object.
const SEAL: (&[u8], &[u8]) = (b",\"sha256\":\"", b"\"}");
const HEX_LENGTH: usize = 64;

/// Adds to a JSON object its checksum as the last field. The checksum covers `before` too.
pub fn sealed(before: &str, object: &[u8]) -> Vec<u8> {
    let checksum = sha256_hex(&[before.as_bytes(), object].concat());
    // The closing brace, which the checksum covers, moves behind it.
    let open = object.strip_suffix(b"}").unwrap_or(object);
    [open, SEAL.0, checksum.as_bytes(), SEAL.1].concat()
}

/// A JSON object whose last field is its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed<'a> {
    /// The object without its checksum and its closing brace.
    open: &'a [u8],
    checksum: &'a [u8],
}

impl<'a> Unsealed<'a> {
    /// `None` if the last field is not a checksum.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let inside = bytes.strip_suffix(SEAL.1)?;
        let (rest, checksum) = inside.split_at_checked(inside.len().checked_sub(HEX_LENGTH)?)?;
        Some(Self { open: rest.strip_suffix(SEAL.0)?, checksum })
    }

    /// Whether the checksum matches the object after `before`.
    pub fn matches(&self, before: &str) -> bool {
        sha256_hex(&[before.as_bytes(), self.open, b"}"].concat()).as_bytes() == self.checksum
    }

    pub fn checksum(&self) -> String {
        String::from_utf8_lossy(self.checksum).into_owned()
    }
}

/// Bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all text");
    }
    text
}

/// A reader or writer that counts and hashes the bytes that pass through it.
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

    /// The wrapped value, the number of bytes passed, and their checksum in hex.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_object_is_the_object_with_one_more_field() {
        let bytes = sealed("before", br#"{"a":1}"#);
        let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(object["a"], 1);
        let unsealed = Unsealed::of(&bytes).unwrap();
        assert_eq!(object["sha256"], unsealed.checksum());
        assert!(unsealed.matches("before") && !unsealed.matches(""));
        assert!(Unsealed::of(br#"{"a":1}"#).is_none() && Unsealed::of(b"").is_none());
    }

    #[test]
    fn a_checksum_is_written_in_hex_and_reads_back() {
        for checksum in [Checksum::of(b"some bytes"), Checksum::default()] {
            let text = serde_json::to_string(&checksum).unwrap();
            assert_eq!(text, format!("\"{checksum}\""));
            assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), checksum);
        }
        assert_eq!(Checksum::of(b"some bytes").to_string(), sha256_hex(b"some bytes"));
        for wrong in ["0".repeat(63), "0".repeat(65), "G".repeat(64), "é".repeat(32)] {
            assert!(serde_json::from_str::<Checksum>(&format!("\"{wrong}\"")).is_err(), "{wrong}");
        }
    }
}
