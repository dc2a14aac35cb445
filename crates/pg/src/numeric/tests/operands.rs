//! Random operands, of the shapes on which scales and roundings depend.

/// A repeatable source of random numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn count(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap()
    }

    /// Up to `bound` - 1 digits: any, few, or equal ones.
    fn digits(&mut self, bound: u64) -> String {
        let count = self.count(bound);
        match self.below(8) {
            0 => "9".repeat(count),
            1 => "0".repeat(count),
            2 => format!("{}{}", "0".repeat(count), self.below(10_000)),
            3 => format!("{}{}", self.below(10_000), "0".repeat(count)),
            4 => format!("{}5", "0".repeat(count)),
            _ => (0..count)
                .map(|_| char::from(b'0' + u8::try_from(self.below(10)).unwrap()))
                .collect(),
        }
    }

    fn sign(&mut self) -> &'static str {
        if self.one_in(3) { "-" } else { "" }
    }

    /// A finite number, most often of few digits.
    pub fn finite(&mut self) -> String {
        let sign = self.sign();
        let number = match self.below(16) {
            0 => self.below(20).to_string(),
            1 => self.below(100_000).to_string(),
            2 => format!("{}.{}", self.below(100), self.below(1_000)),
            3 => format!("0.{}{}", "0".repeat(self.count(30)), self.below(100_000)),
            4 => format!("1.{}{}", "0".repeat(self.count(30)), self.below(1_000)),
            5 => format!("0.{}{}", "9".repeat(self.count(30) + 1), self.below(1_000)),
            6 => format!("1{}", "0".repeat(self.count(40))),
            7 => format!("0.{}", "0".repeat(self.count(30) + 1)),
            8 => format!("{}e{}", self.below(1_000), self.below(60)),
            9 => format!("{}.{}e-{}", self.below(1_000), self.below(1_000), self.below(60)),
            10 => format!("{}0.{}", self.digits(150), self.digits(150)),
            _ => format!("{}{}.{}0", self.below(10), self.digits(24), self.digits(20)),
        };
        format!("{sign}{number}")
    }

    /// Any value.
    pub fn any(&mut self) -> String {
        match self.below(60) {
            0 => "NaN".to_owned(),
            1 => "Infinity".to_owned(),
            2 => "-Infinity".to_owned(),
            3 => "0".to_owned(),
            4 => format!("{}{}e{}", self.sign(), self.digits(9), self.below(131_080)),
            5 => format!("{}1{}e-{}", self.sign(), self.digits(9), self.below(16_390)),
            6 => format!("{}{}.{}", self.sign(), self.digits(2_000) + "1", self.digits(2_000)),
            _ => self.finite(),
        }
    }

    /// A number that fits a double, or special.
    pub fn float(&mut self) -> String {
        match self.below(12) {
            0 => "NaN".to_owned(),
            1 => "-Infinity".to_owned(),
            2 => f64::from_bits(self.next()).to_string(),
            3 => f32::from_bits(u32::try_from(self.next() >> 32).unwrap()).to_string(),
            4 => format!("{}{}5", self.sign(), 10_u64.pow(13) + self.below(10_u64.pow(13))),
            5 => format!("{}{}5", self.sign(), 10_000 + self.below(1_000_000)),
            6 => (1.0 / f64::from(1_u32 << self.below(30))).to_string(),
            _ => self.finite(),
        }
    }

    /// A number whose exponential is of moderate size; seldom a larger one.
    pub fn exponent(&mut self) -> String {
        match self.below(12) {
            0 => self.any(),
            1 => format!("{}{}.{}", self.sign(), self.below(7_000), self.below(1_000)),
            2 => format!("{}{}", self.sign(), self.below(10_000)),
            3 => format!("{}{}.{}", self.sign(), self.below(10), self.digits(60) + "0"),
            4 => format!("{}{}.5", self.sign(), self.below(40)),
            _ => format!("{}{}.{}", self.sign(), self.below(60), self.below(100_000)),
        }
    }

    /// A number, damaged or written in another way.
    pub fn written(&mut self) -> String {
        let number = self.any();
        match self.below(10) {
            0 => format!("  {number}\t"),
            1 => format!("+{number}"),
            2 => format!("{number}e{}", self.below(40)),
            3 => format!("{number}E-{}", self.below(40)),
            4 => format!("{number}."),
            5 => format!(".{number}"),
            6 => number.replace('0', "_"),
            7 => format!("{number}x"),
            8 => number.to_lowercase().replace("infinity", "inf"),
            _ => format!("{}e{}{}", number, self.sign(), self.next() >> self.below(64)),
        }
    }
}
