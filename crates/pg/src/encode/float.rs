//! Prints floats as PostgreSQL does: the shortest digits that parse to the same number.

use std::fmt::{self, LowerExp, Write};
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

/// The properties in which `real` and `double precision` differ.
pub(super) trait Float: Copy + PartialEq + LowerExp + FromStr {
    /// Bits of the significand.
    const PRECISION: u32;
    /// Numbers of ten to this power and above are printed with an exponent.
    const EXPONENT_MIN: i32;

    /// The text of NaN and the infinities; `None` for numbers.
    fn special(self) -> Option<&'static [u8]>;
}

macro_rules! float {
    ($float:ty, $precision:literal, $exponent_min:literal) => {
        impl Float for $float {
            const PRECISION: u32 = $precision;
            const EXPONENT_MIN: i32 = $exponent_min;

            fn special(self) -> Option<&'static [u8]> {
                if self.is_nan() {
                    Some(b"NaN")
                } else if self.is_infinite() {
                    Some(if self > 0.0 { b"Infinity" } else { b"-Infinity" })
                } else {
                    None
                }
            }
        }
    };
}

float!(f32, 24, 6);
float!(f64, 53, 15);

pub(super) fn write<F: Float>(value: F, out: &mut BytesMut) {
    if let Some(special) = value.special() {
        out.put_slice(special);
        return;
    }
    let digits = shortest(value);
    if digits.negative {
        out.put_u8(b'-');
    }
    let exponent = digits.exponent;
    if (-4..F::EXPONENT_MIN).contains(&exponent) {
        write_plain(digits.significant(), exponent, out);
    } else {
        write_scientific(digits.significant(), exponent, out);
    }
}

fn write_plain(digits: &[u8], exponent: i32, out: &mut BytesMut) {
    let Ok(last_integer) = usize::try_from(exponent) else {
        out.put_slice(b"0.");
        (1..exponent.unsigned_abs()).for_each(|_| out.put_u8(b'0'));
        out.put_slice(digits);
        return;
    };
    let (integer, fraction) = digits.split_at(digits.len().min(last_integer + 1));
    out.put_slice(integer);
    (integer.len()..=last_integer).for_each(|_| out.put_u8(b'0'));
    if !fraction.is_empty() {
        out.put_u8(b'.');
        out.put_slice(fraction);
    }
}

fn write_scientific(digits: &[u8], exponent: i32, out: &mut BytesMut) {
    let (first, fraction) = digits.split_at(1);
    out.put_slice(first);
    if !fraction.is_empty() {
        out.put_u8(b'.');
        out.put_slice(fraction);
    }
    out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let exponent = exponent.unsigned_abs();
    if exponent < 10 {
        out.put_u8(b'0');
    }
    super::digits::put_unsigned(u64::from(exponent), out);
}

fn shortest<F: Float>(value: F) -> Digits {
    let digits = Digits::of(format_args!("{value:e}"));
    if !digits.is_halfway(F::PRECISION) {
        return digits;
    }
    // Skips digits that lie exactly halfway between two floats, although most parsers would round them to
    // this one: `1e23` is printed as 9.999999999999999e+22.
    (digits.count..17)
        .map(|count| Digits::of(format_args!("{value:.count$e}")))
        .find(|longer| longer.reads_as(value) && !longer.is_halfway(F::PRECISION))
        .unwrap_or(digits)
}

/// The significant digits of a number, and the power of ten of the first digit.
struct Digits {
    negative: bool,
    /// First the text `d.ddde±xx`, later the digits without the point.
    text: [u8; 32],
    length: usize,
    count: usize,
    exponent: i32,
}

impl Digits {
    /// Parses the output of Rust's `{:e}`.
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut digits = Self { negative: false, text: [0; 32], length: 0, count: 0, exponent: 0 };
        digits.write_fmt(text).expect("17 digits, a point and an exponent fit");
        let text = digits.text;
        let text = &text[..digits.length];
        digits.negative = text.first() == Some(&b'-');
        let end = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
        let exponent = text.get(end + 1..).and_then(|e| std::str::from_utf8(e).ok());
        digits.exponent = exponent.and_then(|e| e.parse().ok()).unwrap_or(0);
        for byte in text[..end].iter().filter(|byte| byte.is_ascii_digit()) {
            digits.text[digits.count] = *byte;
            digits.count += 1;
        }
        while digits.count > 1 && digits.text[digits.count - 1] == b'0' {
            digits.count -= 1;
        }
        digits
    }

    fn significant(&self) -> &[u8] {
        &self.text[..self.count]
    }

    /// Whether the digits lie exactly halfway between two floats of this precision: an odd integer one bit
    /// longer than the significand, times a power of two. Only large integers do.
    fn is_halfway(&self, precision: u32) -> bool {
        let count = i32::try_from(self.count).unwrap_or(i32::MAX);
        let Ok(power) = u32::try_from(self.exponent - count + 1) else { return false };
        let value =
            self.significant().iter().fold(0, |value, digit| value * 10 + u128::from(digit - b'0'));
        let odd = value >> value.trailing_zeros().min(127);
        let product = 5_u128.checked_pow(power).and_then(|fives| odd.checked_mul(fives));
        product.is_some_and(|product| u128::BITS - product.leading_zeros() == precision + 1)
    }

    fn reads_as<F: Float>(&self, value: F) -> bool {
        let digits = std::str::from_utf8(self.significant()).unwrap_or_default();
        let (first, fraction) = digits.split_at(1);
        let sign = if self.negative { "-" } else { "" };
        let text = format!("{sign}{first}.{fraction}e{}", self.exponent);
        text.parse::<F>().is_ok_and(|read| read == value)
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}
