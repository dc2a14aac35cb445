//! Digits of decimal numbers, in PostgreSQL's text and binary forms.

use std::fmt::{Display, Write};

use bytes::{BufMut, BytesMut};
use datafusion::arrow::datatypes::i256;

/// A 256-bit integer has at most 78 digits and a sign.
const DIGITS_MAX: usize = 80;
/// Number of four-digit groups that hold them, wherever the decimal point is.
const GROUPS_MAX: usize = DIGITS_MAX / 4 + 2;

const SIGN_NEGATIVE: u16 = 0x4000;

/// A decimal number: the digits of an integer, divided by ten to the power of `scale`.
pub(super) struct Decimal {
    negative: bool,
    digits: [u8; DIGITS_MAX],
    /// The digits are in `start..end`, which is empty for zero.
    start: usize,
    end: usize,
    scale: i32,
}

impl Decimal {
    pub(super) fn from_i128(value: i128, scale: i8) -> Self {
        Self::new(value.unsigned_abs(), value < 0, scale)
    }

    pub(super) fn from_i256(value: i256, scale: i8) -> Self {
        match value.to_i128() {
            Some(value) => Self::from_i128(value, scale),
            None => Self::new(value, value.is_negative(), scale),
        }
    }

    fn new(value: impl Display, negative: bool, scale: i8) -> Self {
        let mut decimal =
            Self { negative, digits: [0; DIGITS_MAX], start: 0, end: 0, scale: i32::from(scale) };
        write!(decimal, "{value}").expect("a 256-bit integer has fewer digits than there is room");
        while decimal.start < decimal.end && matches!(decimal.digits[decimal.start], b'0' | b'-') {
            decimal.start += 1;
        }
        decimal
    }

    /// Removes the zeros at the end of the fraction.
    pub(super) fn trimmed(mut self) -> Self {
        while self.scale > 0 && self.end > self.start && self.digits[self.end - 1] == b'0' {
            self.end -= 1;
            self.scale -= 1;
        }
        if self.start == self.end {
            self.scale = self.scale.min(0);
        }
        self
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.start..self.end]
    }

    /// Writes the text form: sign, integer digits, and the fraction with `scale` digits.
    pub(super) fn write_text(&self, out: &mut BytesMut) {
        let digits = self.digits();
        if self.negative {
            out.put_u8(b'-');
        }
        let Ok(scale) = usize::try_from(self.scale) else {
            out.put_slice(if digits.is_empty() { b"0" } else { digits });
            let zeros = if digits.is_empty() { 0 } else { self.scale.unsigned_abs() };
            (0..zeros).for_each(|_| out.put_u8(b'0'));
            return;
        };
        let (integer, fraction) = digits.split_at(digits.len().saturating_sub(scale));
        out.put_slice(if integer.is_empty() { b"0" } else { integer });
        if scale > 0 {
            out.put_u8(b'.');
            (fraction.len()..scale).for_each(|_| out.put_u8(b'0'));
            out.put_slice(fraction);
        }
    }

    /// Writes the binary form: number of base-10000 digits, weight of the first one, sign, scale, digits.
    pub(super) fn write_binary(&self, out: &mut BytesMut) {
        let (groups, weight) = self.groups();
        let count = groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1);
        out.put_u16(u16::try_from(count).unwrap_or(0));
        out.put_i16(if count == 0 { 0 } else { weight });
        out.put_u16(if self.negative && count > 0 { SIGN_NEGATIVE } else { 0 });
        out.put_i16(i16::try_from(self.scale.max(0)).unwrap_or(0));
        groups[..count].iter().for_each(|group| out.put_u16(*group));
    }

    /// The digits in groups of four aligned at the decimal point, and the weight of the first group: its
    /// power of 10000.
    fn groups(&self) -> ([u16; GROUPS_MAX], i16) {
        let digits = self.digits();
        let mut groups = [0; GROUPS_MAX];
        // Power of ten of the first digit.
        let first = i32::try_from(digits.len()).unwrap_or(0) - self.scale - 1;
        let weight = first.div_euclid(4);
        for (digit, power) in digits.iter().zip((i32::MIN..=first).rev()) {
            let group = usize::try_from(weight - power.div_euclid(4)).unwrap_or(0);
            let shift = u32::try_from(power.rem_euclid(4)).unwrap_or(0);
            groups[group] += u16::from(digit - b'0') * 10_u16.pow(shift);
        }
        (groups, i16::try_from(weight).unwrap_or(0))
    }
}

impl Write for Decimal {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.digits.get_mut(self.end..self.end + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.end += text.len();
        Ok(())
    }
}
