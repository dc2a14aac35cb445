//! Finite decimal numbers: an integer divided by a power of ten.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{Signed as _, ToPrimitive as _, Zero as _};

/// Decimal digits in a group. PostgreSQL stores a numeric as groups, aligned to the point, and derives scales of
/// results from their number.
pub const GROUP_DIGITS: i64 = 4;

/// `coefficient` × 10^-`scale`. The scale is what is shown, not what is needed.
///
/// Intermediate results may exceed the limits of type numeric.
#[derive(Clone, Debug)]
pub struct Decimal {
    pub coefficient: BigInt,
    pub scale: u32,
}

/// Returns 10^`exponent`.
pub fn power_of_ten(exponent: u32) -> BigUint {
    match 10_u128.checked_pow(exponent) {
        Some(small) => BigUint::from(small),
        None => BigUint::from(10_u8).pow(exponent),
    }
}

/// Number of decimal digits; 0 for zero.
pub fn digit_count(value: &BigUint) -> u64 {
    if value.bits() <= 128 {
        let small = value.to_u128().unwrap_or(u128::MAX);
        return small.checked_ilog10().map_or(0, |log| u64::from(log) + 1);
    }
    let shift = value.bits() - 64;
    let top = (value >> shift).to_f64().unwrap_or(f64::MAX);
    let log = top.log10() + int_to_f64(shift) * std::f64::consts::LOG10_2;
    // Only next to a power of ten may the estimate be on its other side.
    let near = log.round();
    if (log - near).abs() > 1e-7 {
        return f64_to_u64(log.floor()) + 1;
    }
    let count = f64_to_u64(near);
    let power = power_of_ten(u32::try_from(count).unwrap_or(u32::MAX));
    if *value >= power { count + 1 } else { count }
}

#[expect(clippy::cast_precision_loss, reason = "bit counts are far below 2^53")]
fn int_to_f64(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "digit counts are small"
)]
fn f64_to_u64(value: f64) -> u64 {
    value as u64
}

/// Returns `numerator` / `denominator`, rounded half up.
pub fn divide_rounded(numerator: &BigUint, denominator: &BigUint) -> BigUint {
    (numerator * 2_u8 + denominator) / (denominator * 2_u8)
}

/// Returns `magnitude` × 10^`exponent`, rounded half up.
fn shifted(magnitude: &BigUint, exponent: i64) -> BigUint {
    let distance = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
    match exponent {
        0 => magnitude.clone(),
        1.. => magnitude * power_of_ten(distance),
        _ if exponent + i64::try_from(digit_count(magnitude)).unwrap_or(i64::MAX) < 0 => {
            BigUint::ZERO
        }
        _ => divide_rounded(magnitude, &power_of_ten(distance)),
    }
}

impl Decimal {
    pub fn new(coefficient: impl Into<BigInt>, scale: u32) -> Self {
        Self { coefficient: coefficient.into(), scale }
    }

    pub fn zero(scale: u32) -> Self {
        Self::new(BigInt::ZERO, scale)
    }

    pub fn one() -> Self {
        Self::new(1, 0)
    }

    pub fn is_zero(&self) -> bool {
        self.coefficient.is_zero()
    }

    pub fn is_negative(&self) -> bool {
        self.coefficient.is_negative()
    }

    /// Returns -1, 0 or 1.
    pub fn signum(&self) -> i8 {
        match self.coefficient.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        }
    }

    pub fn magnitude(&self) -> &BigUint {
        self.coefficient.magnitude()
    }

    pub fn abs(&self) -> Self {
        Self::new(self.coefficient.abs(), self.scale)
    }

    pub fn negated(&self) -> Self {
        Self::new(-&self.coefficient, self.scale)
    }

    /// Power of ten of the first digit that is not zero; 0 for zero.
    pub fn exponent(&self) -> i64 {
        match digit_count(self.magnitude()) {
            0 => 0,
            count => i64::try_from(count).unwrap_or(i64::MAX) - 1 - i64::from(self.scale),
        }
    }

    /// Power of 10,000 of the first group; 0 for zero.
    pub fn weight(&self) -> i64 {
        self.exponent().div_euclid(GROUP_DIGITS)
    }

    /// Value of the first group; 0 for zero.
    pub fn first_group(&self) -> u32 {
        let unit = self.weight() * GROUP_DIGITS + i64::from(self.scale);
        let distance = u32::try_from(unit.unsigned_abs()).unwrap_or(u32::MAX);
        let power = power_of_ten(distance);
        let group = if unit < 0 { self.magnitude() * power } else { self.magnitude() / power };
        group.to_u32().unwrap_or(0)
    }

    /// All groups, without zero groups at the end. The first one counts 10,000^`weight()`.
    pub fn groups(&self) -> Vec<u16> {
        if self.is_zero() {
            return vec![];
        }
        let missing = (4 - self.scale % 4) % 4;
        let mut pairs = (self.magnitude() * power_of_ten(missing)).to_radix_be(100);
        if pairs.len() % 2 == 1 {
            pairs.insert(0, 0);
        }
        let group = |pair: &[u8]| u16::from(pair[0]) * 100 + u16::from(pair[1]);
        let mut groups: Vec<u16> = pairs.chunks_exact(2).map(group).collect();
        groups.truncate(groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1));
        groups
    }

    /// Returns the value with `scale` digits, rounded half away from zero. A negative scale rounds digits before the
    /// point, and none after it are shown.
    pub fn rounded(&self, scale: i64) -> Self {
        let rounded = shifted(self.magnitude(), scale - i64::from(self.scale));
        self.with_magnitude(rounded, scale)
    }

    /// Returns the value with `scale` digits; further digits are dropped.
    pub fn truncated(&self, scale: i64) -> Self {
        let exponent = scale - i64::from(self.scale);
        if exponent >= 0 {
            return self.rounded(scale);
        }
        let distance = u32::try_from(-exponent).unwrap_or(u32::MAX);
        let kept = if u64::from(distance) > digit_count(self.magnitude()) {
            BigUint::ZERO
        } else {
            self.magnitude() / power_of_ten(distance)
        };
        self.with_magnitude(kept, scale)
    }

    /// `magnitude` × 10^-`scale` with the sign of this value.
    fn with_magnitude(&self, magnitude: BigUint, scale: i64) -> Self {
        let Ok(shown) = u32::try_from(scale) else {
            return self.with_magnitude(shifted(&magnitude, -scale), 0);
        };
        Self::new(BigInt::from_biguint(self.coefficient.sign(), magnitude), shown)
    }

    /// Whether no digit after the point is other than zero.
    pub fn is_integral(&self) -> bool {
        self.scale == 0 || self.cmp_value(&self.truncated(0)) == Ordering::Equal
    }

    /// Compares the values, whatever their scales.
    pub fn cmp_value(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.coefficient.cmp(&other.coefficient);
        }
        let signs = self.signum().cmp(&other.signum());
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        let exponents = self.exponent().cmp(&other.exponent());
        let magnitudes = exponents.then_with(|| {
            let (left, right) = self.aligned(other);
            left.magnitude().cmp(right.magnitude())
        });
        if self.is_negative() { magnitudes.reverse() } else { magnitudes }
    }

    /// The coefficients of both values at the greater scale.
    pub fn aligned(&self, other: &Self) -> (BigInt, BigInt) {
        let up = |value: &Self, by: u32| match by {
            0 => value.coefficient.clone(),
            _ => &value.coefficient * BigInt::from(power_of_ten(by)),
        };
        let scale = self.scale.max(other.scale);
        (up(self, scale - self.scale), up(other, scale - other.scale))
    }

    pub fn plus(&self, other: &Self) -> Self {
        let (left, right) = self.aligned(other);
        Self::new(left + right, self.scale.max(other.scale))
    }

    pub fn minus(&self, other: &Self) -> Self {
        let (left, right) = self.aligned(other);
        Self::new(left - right, self.scale.max(other.scale))
    }

    pub fn times(&self, other: &Self) -> Self {
        Self::new(&self.coefficient * &other.coefficient, self.scale + other.scale)
    }

    /// Returns the product with `scale` digits.
    pub fn times_rounded(&self, other: &Self, scale: i64) -> Self {
        self.times(other).rounded(scale)
    }

    /// Returns the quotient with `scale` digits. The divisor must not be zero.
    pub fn divided(&self, other: &Self, scale: u32) -> Self {
        let exponent = i64::from(scale) + i64::from(other.scale) - i64::from(self.scale);
        let power = power_of_ten(u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX));
        let magnitude = if exponent >= 0 {
            divide_rounded(&(self.magnitude() * power), other.magnitude())
        } else {
            divide_rounded(self.magnitude(), &(other.magnitude() * power))
        };
        let sign = self.coefficient.sign() * other.coefficient.sign();
        Self::new(BigInt::from_biguint(sign, magnitude), scale)
    }

    /// Returns the integer part of the quotient. The divisor must not be zero.
    pub fn quotient(&self, other: &Self) -> Self {
        let (left, right) = self.aligned(other);
        Self::new(left / right, 0)
    }

    /// Returns what is left of this value after the integer quotient. The divisor must not be zero.
    pub fn remainder(&self, other: &Self) -> Self {
        let (left, right) = self.aligned(other);
        Self::new(left % right, self.scale.max(other.scale))
    }

    /// Fewest digits after the point that hold the value.
    pub fn scale_needed(&self) -> u32 {
        if self.is_zero() {
            return 0;
        }
        let mut low = 0;
        let mut high = self.scale;
        // The value is exact at every scale above the answer.
        while low < high {
            let middle = low.midpoint(high);
            if self.truncated(i64::from(middle)).cmp_value(self) == Ordering::Equal {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The nearest float; infinite or zero if it is beyond the floats.
    pub fn to_f64(&self) -> f64 {
        let text = format!("{}e-{}", self.coefficient, self.scale);
        text.parse().unwrap_or(f64::NAN)
    }
}
