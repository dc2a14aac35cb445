//! Time as the database keeps it: [`Epoch`], [`Lifetime`] (the law) and [`Clock`], the only reader of wall time.
//!
//! An epoch is a 64-bit number whose upper 48 bits are milliseconds since 2021-04-01T00:00:00Z and
//! whose lower 16 bits are zero. Every commit takes a new, strictly greater epoch, also after a
//! restart, a restore or a clock that stepped back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

/// 2021-04-01T00:00:00Z in Unix milliseconds: physical time zero of an epoch.
const ORIGIN_UNIX_MS: u64 = 1_617_235_200_000;
const PHYSICAL_SHIFT: u32 = 16;

/// A point in the history of the whole database.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// Before everything; also the value of `query_epoch` that means "now".
    pub const ZERO: Self = Self(0);

    /// The epoch with this raw value, as users write it in `SET QUERY_EPOCH`.
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw value, as users see it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The epoch of a Unix time in milliseconds; times before the origin saturate to zero.
    pub const fn from_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms.saturating_sub(ORIGIN_UNIX_MS) << PHYSICAL_SHIFT)
    }

    /// The Unix time of this epoch in milliseconds.
    pub const fn unix_ms(self) -> u64 {
        ORIGIN_UNIX_MS + (self.0 >> PHYSICAL_SHIFT)
    }

    /// The epoch `ms` milliseconds earlier; saturates to zero.
    pub const fn minus_ms(self, ms: u64) -> Self {
        let physical = (self.0 >> PHYSICAL_SHIFT).saturating_sub(ms);
        Self(physical << PHYSICAL_SHIFT)
    }

    /// The epoch of the next commit: the clock's time, or one millisecond after `self` when the
    /// clock has not moved past it.
    pub fn next(self, now_ms: u64) -> Self {
        Self::from_unix_ms(now_ms).max(Self(((self.0 >> PHYSICAL_SHIFT) + 1) << PHYSICAL_SHIFT))
    }

    /// Time of this epoch in UTC; `None` for epoch zero and for times no calendar holds.
    pub fn timestamp(self) -> Option<NaiveDateTime> {
        if self == Self::ZERO {
            return None;
        }
        let ms = i64::try_from(self.unix_ms()).ok()?;
        DateTime::from_timestamp_millis(ms).map(|t| t.naive_utc())
    }
}

/// A Unix time in milliseconds as RFC 3339 text in UTC.
pub fn rfc3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(DateTime::from_timestamp_millis);
    time.unwrap_or(DateTime::UNIX_EPOCH).to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Epoch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// When a thing exists: from `born` (included) to `died` (excluded; `None` while it lives).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    pub born: Epoch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<Epoch>,
}

impl Lifetime {
    pub const fn since(born: Epoch) -> Self {
        Self { born, died: None }
    }

    /// The law: a thing is part of the database at `epoch` if it is alive then.
    pub fn alive_at(&self, epoch: Epoch) -> bool {
        self.born <= epoch && self.died.is_none_or(|died| epoch < died)
    }

    pub const fn is_open(&self) -> bool {
        self.died.is_none()
    }

    /// Whether no epoch at or after `epoch` can see it.
    pub fn over_by(&self, epoch: Epoch) -> bool {
        self.died.is_some_and(|died| died <= epoch)
    }

    /// The same lifetime, ended at `epoch`.
    pub const fn ended_at(self, epoch: Epoch) -> Self {
        Self { born: self.born, died: Some(epoch) }
    }
}

/// Where time comes from. Tests move a [`ManualClock`] by hand.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> u64;
}

/// The machine's wall clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of wall time")]
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn at_ms(unix_ms: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(unix_ms)))
    }

    pub fn set_ms(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::SeqCst);
    }

    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_decode_to_the_documented_times() {
        let figures = [
            (3603859827458048, "2022-12-28 11:08:56.918"),
            (3603862776381440, "2022-12-28 11:09:41.915"),
            (3603898821640192, "2022-12-28 11:18:51.922"),
            (3603900263432192, "2022-12-28 11:19:13.922"),
        ];
        for (raw, time) in figures {
            let epoch = Epoch::from_u64(raw);
            assert_eq!(epoch.timestamp().unwrap().to_string(), time);
            assert_eq!(Epoch::from_unix_ms(epoch.unix_ms()), epoch);
        }
    }

    #[test]
    fn next_is_strictly_greater_when_the_clock_stands_still_or_steps_back() {
        let first = Epoch::ZERO.next(1_700_000_000_000);
        let second = first.next(1_700_000_000_000);
        let third = second.next(1_600_000_000_000);
        assert!(first < second && second < third);
        assert_eq!(third.as_u64() & 0xffff, 0);
    }

    #[test]
    fn a_lifetime_includes_its_birth_and_excludes_its_death() {
        let [a, b, c] = [10, 20, 30].map(Epoch::from_u64);
        let life = Lifetime::since(b).ended_at(c);
        assert!(!life.alive_at(a) && life.alive_at(b) && !life.alive_at(c));
        assert!(life.over_by(c) && !life.over_by(b));
    }

    #[test]
    fn times_before_the_origin_saturate() {
        assert_eq!(Epoch::from_unix_ms(5), Epoch::ZERO);
        assert_eq!(Epoch::from_u64(1 << 16).minus_ms(5), Epoch::ZERO);
        assert_eq!(Epoch::ZERO.timestamp(), None);
    }
}
