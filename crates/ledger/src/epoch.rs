//! Database time: [`Epoch`], [`Lifetime`] (the law), and [`Clock`], the only reader of the wall clock.
//!
//! An epoch is a 64-bit number whose upper 48 bits are milliseconds since 2021-04-01T00:00:00Z. The lower 16
//! bits number the commits within one millisecond, starting at 0. Every commit takes a strictly greater epoch
//! than the one before, also after a restart, a restore or a clock step; its time comes from a [`Timeline`].

mod timeline;

pub use timeline::{AHEAD_MS_MAX, Timeline};

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

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
    /// Before every commit; also the value of `query_epoch` that means "now".
    pub const ZERO: Self = Self(0);
    /// After every commit; never assigned to one.
    pub const LAST: Self = Self(u64::MAX);

    /// The epoch with this raw value, as users write it in `SET QUERY_EPOCH`.
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw value, as users see it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The epoch of a Unix time in milliseconds. Saturates to zero before the origin, and to the last epoch
    /// where the milliseconds exceed 48 bits (after the year 10,000).
    pub const fn from_unix_ms(unix_ms: u64) -> Self {
        match unix_ms.saturating_sub(ORIGIN_UNIX_MS) {
            ms if ms > u64::MAX >> PHYSICAL_SHIFT => Self::LAST,
            ms => Self(ms << PHYSICAL_SHIFT),
        }
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

    /// The epoch of the next commit: the one at `now_ms`, or `self` plus one if that is greater. A
    /// millisecond has room for 65,536 commits, so commits do not push epochs ahead of time.
    pub fn next(self, now_ms: u64) -> Self {
        Self::from_unix_ms(now_ms).max(Self(self.0.saturating_add(1)))
    }

    /// Time of this epoch in UTC; `None` for epoch zero and for times out of the calendar's range.
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

/// The epochs at which something exists: from `born` (inclusive) to `died` (exclusive; `None` while it is
/// alive).
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

    /// The law: what is alive at `epoch` is part of the database at `epoch`.
    pub fn alive_at(&self, epoch: Epoch) -> bool {
        self.born <= epoch && self.died.is_none_or(|died| epoch < died)
    }

    pub const fn is_open(&self) -> bool {
        self.died.is_none()
    }

    /// Whether it died at or before `epoch`, so that no epoch from there on can see it.
    pub fn over_by(&self, epoch: Epoch) -> bool {
        self.died.is_some_and(|died| died <= epoch)
    }

    /// The same lifetime, ended at `epoch`.
    pub const fn ended_at(self, epoch: Epoch) -> Self {
        Self { born: self.born, died: Some(epoch) }
    }
}

/// A source of time. Tests use a [`ManualClock`].
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time in Unix milliseconds; may step forwards and backwards.
    fn now_ms(&self) -> u64;

    /// Monotonic milliseconds since an arbitrary moment of this process. Never steps; for measuring
    /// durations.
    fn monotonic_ms(&self) -> u64;
}

/// The zero point of monotonic time.
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

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

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(PROCESS_START.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that tests move by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    pub fn at_ms(unix_ms: u64) -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicU64::new(unix_ms), monotonic_ms: AtomicU64::new(0) })
    }

    /// Steps the wall clock; monotonic time does not change.
    pub fn set_ms(&self, unix_ms: u64) {
        self.now_ms.store(unix_ms, Ordering::SeqCst);
    }

    /// Advances both the wall clock and monotonic time.
    pub fn advance_ms(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
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
        assert_eq!(first.as_u64() & 0xffff, 0);
        assert_eq!((third.as_u64() & 0xffff, third.unix_ms()), (2, first.unix_ms()));
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
        assert_eq!(Epoch::from_unix_ms(u64::MAX), Epoch::LAST);
    }
}
