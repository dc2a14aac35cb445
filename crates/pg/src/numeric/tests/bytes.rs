//! The byte form: order, equality, damage, and its fixture.

use tidemark_ledger::fixtures::read_or_update;

use super::operands::Random;
use crate::numeric::{Numeric, decode, encode, encode_into, key};

fn numeric(text: &str) -> Numeric {
    text.parse().unwrap()
}

/// Values at every edge of the format.
fn samples() -> Vec<Numeric> {
    let texts = [
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "0.000",
        "1",
        "1.0",
        "-1",
        "9.99",
        "10",
        "-10.5",
        "99",
        "100",
        "-100",
        "0.1",
        "0.01",
        "-0.001",
        "123456789.987654321",
        "1e131071",
        "-1e131071",
        "1e-16383",
        "0e-16383",
        "12.50",
    ];
    texts.map(numeric).to_vec()
}

#[test]
fn bytes_give_value_and_scale_back() {
    let mut random = Random(1);
    for _ in 0..3_000 {
        let text = random.any();
        let Ok(value) = text.parse::<Numeric>() else { continue };
        assert_eq!(decode(&encode(&value)).unwrap().to_string(), value.to_string(), "{text}");
    }
}

#[test]
fn keys_sort_as_the_values_do() {
    let mut random = Random(2);
    let mut values = samples();
    values.extend((0..600).filter_map(|_| random.any().parse().ok()));
    let bytes: Vec<Vec<u8>> = values.iter().map(encode).collect();
    for (left, left_bytes) in values.iter().zip(&bytes) {
        for (right, right_bytes) in values.iter().zip(&bytes) {
            assert_eq!(key(left_bytes).cmp(key(right_bytes)), left.cmp(right), "{left} {right}");
        }
    }
}

#[test]
fn only_bytes_that_are_written_are_read() {
    let mut random = Random(3);
    for _ in 0..20_000 {
        let Ok(value) = random.finite().parse::<Numeric>() else { continue };
        let mut bytes = encode(&value);
        let at = usize::try_from(random.next()).unwrap() % bytes.len();
        match random.below(3) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            _ => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
        }
        if let Ok(read) = decode(&bytes) {
            assert_eq!(encode(&read), bytes);
        }
    }
    assert!(decode(&[]).is_err());
    assert!(decode(&[6]).is_err());
}

#[test]
fn released_bytes_are_read_and_written_again() {
    let written = read_or_update("numeric-v1.bin", || {
        samples().iter().fold(vec![], |mut out, value| {
            let bytes = encode(value);
            out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(bytes);
            out
        })
    });
    let mut rest = written.as_slice();
    for expected in samples() {
        let (length, after) = rest.split_first_chunk().unwrap();
        let (bytes, after) = after.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        assert_eq!(decode(bytes).unwrap().to_string(), expected.to_string());
        let mut again = vec![];
        encode_into(&expected, &mut again);
        assert_eq!(again, bytes);
        rest = after;
    }
    assert!(rest.is_empty());
}

#[test]
fn equal_values_have_equal_keys() {
    let (left, right) = (encode(&numeric("1.5")), encode(&numeric("1.500")));
    assert_eq!(key(&left), key(&right));
    assert_ne!(left, right);
    assert_eq!(left, [4, 0x80, 0, 0, 0, 2, 51, 0, 0, 1]);
    assert_eq!(encode(&numeric("-1.5")), [2, 0x7f, 0xff, 0xff, 0xff, 0xfd, 0xcc, 0xff, 0, 1]);
}
