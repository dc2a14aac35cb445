//! Square root, and the logarithm in binary fixed point.
//!
//! A fixed-point number of `bits` is an integer ÷ 2^bits. Working numbers carry [`GUARD_BITS`] more than the result
//! needs, so that the error of all steps together is far below the last digit.

use std::sync::LazyLock;

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{One as _, Zero as _};

use super::decimal::{Decimal, divide_rounded, power_of_ten};

const GUARD_BITS: u64 = 64;

/// Bits of the logarithm of 2 that is kept.
const KEPT_BITS: u64 = 4_096;

static LN_2: LazyLock<BigUint> = LazyLock::new(|| compute_ln_2(KEPT_BITS));

/// Bits that hold this many decimal digits.
fn bits_of_digits(digits: i64) -> u64 {
    // log2(10) is 3.3219…
    u64::try_from(digits).unwrap_or(0) * 3_322 / 1_000 + 1
}

/// Returns a fixed-point number as a decimal of `scale`, rounded half up.
fn to_decimal(sign: Sign, value: &BigUint, bits: u64, scale: u32) -> Decimal {
    let scaled = value * power_of_ten(scale);
    let magnitude = (scaled + (BigUint::one() << (bits - 1))) >> bits;
    Decimal::new(BigInt::from_biguint(sign, magnitude), scale)
}

/// The sum of z^(2i+1) / (2i+1), the inverse hyperbolic tangent of z.
fn atanh(z: &BigUint, bits: u64) -> BigUint {
    let square = (z * z) >> bits;
    let (mut sum, mut power, mut divisor) = (z.clone(), z.clone(), 1_u64);
    while !power.is_zero() {
        power = (power * &square) >> bits;
        divisor += 2;
        sum += &power / divisor;
    }
    sum
}

/// The inverse hyperbolic tangent of 1 / `n`.
fn atanh_of_inverse(n: u64, bits: u64) -> BigUint {
    let mut power = (BigUint::one() << bits) / n;
    let (mut sum, mut divisor) = (power.clone(), 1_u64);
    while !power.is_zero() {
        power /= n * n;
        divisor += 2;
        sum += &power / divisor;
    }
    sum
}

/// ln 2 = 18 atanh(1/26) − 2 atanh(1/4801) + 8 atanh(1/8749).
fn compute_ln_2(bits: u64) -> BigUint {
    let wide = bits + GUARD_BITS;
    let of = |n| atanh_of_inverse(n, wide);
    (of(26) * 18_u8 + of(8_749) * 8_u8 - of(4_801) * 2_u8) >> GUARD_BITS
}

fn ln_2(bits: u64) -> BigUint {
    if bits <= KEPT_BITS { &*LN_2 >> (KEPT_BITS - bits) } else { compute_ln_2(bits) }
}

/// Returns the natural logarithm of a positive number with `scale` digits.
pub fn ln(value: &Decimal, scale: u32) -> Decimal {
    let bits = bits_of_digits(scale.into()) + GUARD_BITS;
    let (mantissa, exponent) = normalized(value, bits);
    let one = BigUint::one() << bits;
    let below_one = mantissa < one;
    let distance = if below_one { &one - &mantissa } else { &mantissa - &one };
    let z = (distance << bits) / (mantissa + one);
    let sign = if below_one { Sign::Minus } else { Sign::Plus };
    let of_mantissa = BigInt::from_biguint(sign, atanh(&z, bits) * 2_u8);
    // The exponent is at most half a million: the logarithm of 2 needs as many bits more.
    let of_power = (BigInt::from(ln_2(bits + GUARD_BITS)) * exponent) >> GUARD_BITS;
    let (sign, magnitude) = (of_mantissa + of_power).into_parts();
    to_decimal(sign, &magnitude, bits, scale)
}

/// Returns a fixed-point number near 1 and a power of two, whose product is the value.
fn normalized(value: &Decimal, bits: u64) -> (BigUint, i64) {
    let denominator = power_of_ten(value.scale);
    let length = |number: &BigUint| i64::try_from(number.bits()).unwrap_or(i64::MAX / 4);
    let at = |exponent: i64| {
        let down = exponent.unsigned_abs();
        if exponent >= 0 {
            (value.magnitude() << bits) / (&denominator << down)
        } else {
            (value.magnitude() << (bits + down)) / &denominator
        }
    };
    let exponent = length(value.magnitude()) - length(&denominator);
    let mantissa = at(exponent);
    // Between 1/2 and 2: moved to between 3/4 and 3/2, so that numbers next to 1 have the exponent 0.
    let half = BigUint::one() << (bits - 1);
    if mantissa > &half * 3_u8 {
        (at(exponent + 1), exponent + 1)
    } else if mantissa < &half + (&half >> 1_u8) {
        (at(exponent - 1), exponent - 1)
    } else {
        (mantissa, exponent)
    }
}

/// Returns the square root of a number that is not negative, with `scale` digits.
pub fn sqrt(value: &Decimal, scale: u32) -> Decimal {
    // One digit more decides the rounding; a root that is cut off is never above the exact one.
    let exponent = 2 * (i64::from(scale) + 1) - i64::from(value.scale);
    let power = power_of_ten(u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX));
    let square = if exponent >= 0 { value.magnitude() * power } else { value.magnitude() / power };
    Decimal::new(divide_rounded(&square.sqrt(), &BigUint::from(10_u8)), scale)
}
