//! Numbers as decimal digits.

use bytes::{BufMut as _, BytesMut};

pub(super) fn put_unsigned(mut value: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}

pub(super) fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value % 10).expect("a remainder of ten is a digit")
}
