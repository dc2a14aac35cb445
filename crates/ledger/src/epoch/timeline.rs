//! The time source of epochs: the wall clock, with its steps smoothed out.
//!
//! A wall clock can be stepped: by hand, over the network, by a host that resumes a machine. Commits keep
//! their epochs and epochs only rise, so a clock that was ahead once would stall everything that is measured
//! in epochs, above all retention, until the clock has caught up. A timeline therefore reads two clocks, the
//! wall clock and a monotonic one:
//!
//! | the wall clock is | the timeline |
//! |---|---|
//! | where the monotonic clock says it should be, within [`AHEAD_MS_MAX`] | follows the wall clock |
//! | further ahead | follows the monotonic clock until the step has lasted for [`BELIEVED_MS`], then the wall clock |
//! | behind the timeline | runs at half the speed of the monotonic clock until the wall clock has caught up |
//!
//! So the timeline never stops and never goes back. A step ahead that is undone within [`BELIEVED_MS`] has no
//! effect. After a step that was followed and then undone, the timeline steadily approaches the wall clock.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use super::{Clock, Epoch, rfc3339};

/// The largest step ahead, in milliseconds, that is followed at once.
pub const AHEAD_MS_MAX: u64 = 5_000;
/// How far the timeline may be ahead of the clock before a warning is logged; further than a restore puts it.
const WARN_AHEAD_MS: u64 = 20_000;
/// How long a larger step must last before it is followed.
pub const BELIEVED_MS: u64 = 60_000;
/// Age of the newest commit above which a start logs a warning.
const LONG_AGO_MS: u64 = 24 * 3_600_000;
/// Allowed drift between the two clocks: one part in this number.
const DRIFT: u64 = 1_000;

/// Reads the clocks. There is one per term of leadership.
#[derive(Debug)]
pub struct Timeline {
    clock: Arc<dyn Clock>,
    hand: Mutex<Hand>,
}

/// The last reading.
#[derive(Clone, Copy, Debug)]
struct Hand {
    /// Unix time in half milliseconds, so that half speed needs no rounding.
    time_halves: u64,
    monotonic_ms: u64,
    pace: Pace,
    /// Whether the difference between the timeline and the clock has been logged.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Clock,
    /// The clock has been ahead since this monotonic time.
    Doubting {
        since_ms: u64,
    },
    /// The clock is behind.
    Slow,
}

impl Hand {
    fn time_ms(self) -> u64 {
        self.time_halves / 2
    }

    /// The next reading, from what the two clocks show now.
    fn moved(self, clock_ms: u64, monotonic_ms: u64) -> Self {
        let passed_ms = monotonic_ms.saturating_sub(self.monotonic_ms);
        let clock = clock_ms.saturating_mul(2);
        let slow = self.time_halves.saturating_add(passed_ms);
        let steady = slow.saturating_add(passed_ms);
        let believable = (AHEAD_MS_MAX + passed_ms / DRIFT).saturating_mul(2);
        let (time_halves, pace) = if clock < slow {
            (slow, Pace::Slow)
        } else if clock <= steady.saturating_add(believable) {
            (clock, Pace::Clock)
        } else {
            match self.doubting_since(monotonic_ms) {
                since_ms if monotonic_ms - since_ms >= BELIEVED_MS => (clock, Pace::Clock),
                since_ms => (steady, Pace::Doubting { since_ms }),
            }
        };
        Self { time_halves, monotonic_ms, pace, ..self }
    }

    fn doubting_since(self, monotonic_ms: u64) -> u64 {
        match self.pace {
            Pace::Doubting { since_ms } => since_ms.min(monotonic_ms),
            Pace::Clock | Pace::Slow => monotonic_ms,
        }
    }

    /// Logs once when the timeline departs from the clock, and once when it is back.
    fn tell(mut self, clock_ms: u64) -> Self {
        let (time_ms, was_told) = (self.time_ms(), self.told);
        let limit_ms = if was_told { AHEAD_MS_MAX } else { WARN_AHEAD_MS };
        self.told = time_ms > clock_ms.saturating_add(limit_ms)
            || clock_ms > time_ms.saturating_add(AHEAD_MS_MAX);
        let (time, clock) = (rfc3339(time_ms), rfc3339(clock_ms));
        match (was_told, self.told) {
            (false, true) if time_ms > clock_ms => warn!(
                time,
                clock,
                "the clock is behind the newest commit: epochs go on at half its speed until it has caught \
                 up; commits and reclamation go on; see whether the clock is right"
            ),
            (false, true) => warn!(
                time,
                clock,
                "the clock stepped ahead: epochs follow when the step has lasted for a minute"
            ),
            (true, false) => info!(time, "epochs are at the time of the clock"),
            _ => {}
        }
        self
    }
}

impl Timeline {
    /// A timeline that starts at the clock's time, but not before `newest`: the clock may have been ahead
    /// when that was committed.
    pub fn starting_after(clock: Arc<dyn Clock>, newest: Epoch) -> Self {
        let (clock_ms, monotonic_ms) = (clock.now_ms(), clock.monotonic_ms());
        if is_long_ago(newest.unix_ms(), clock_ms) {
            warn!(
                newest_commit = rfc3339(newest.unix_ms()),
                clock = rfc3339(clock_ms),
                "the newest commit is more than a day older than the clock; epochs follow the clock at once: \
                 if it is wrong, stop the server and set it right"
            );
        }
        let time_halves = clock_ms.max(newest.unix_ms()).saturating_mul(2);
        let hand = Hand { time_halves, monotonic_ms, pace: Pace::Clock, told: false };
        Self { clock, hand: Mutex::new(hand.tell(clock_ms)) }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Unix time in milliseconds. Never goes back.
    pub fn now_ms(&self) -> u64 {
        let mut hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let clock_ms = self.clock.now_ms();
        *hand = hand.moved(clock_ms, self.clock.monotonic_ms()).tell(clock_ms);
        hand.time_ms()
    }

    /// The epoch of the current millisecond. No earlier commit has a greater epoch, except for those in this
    /// millisecond.
    pub fn now(&self) -> Epoch {
        Epoch::from_unix_ms(self.now_ms())
    }

    /// The earlier of the timeline and the wall clock, so that an age measured from it is never
    /// overestimated.
    pub fn earliest_now_ms(&self) -> u64 {
        self.now_ms().min(self.clock.now_ms())
    }
}

/// Whether the newest commit is so old at a start that the clock may be wrong: a cluster that was stopped for
/// long looks the same as a clock that is ahead.
fn is_long_ago(newest_ms: u64, clock_ms: u64) -> bool {
    clock_ms > newest_ms.saturating_add(LONG_AGO_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ManualClock;
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const DAY_MS: u64 = 86_400_000;

    fn timeline() -> (Timeline, Arc<ManualClock>) {
        let clock = ManualClock::at_ms(NOW_MS);
        (Timeline::starting_after(Arc::clone(&clock) as _, Epoch::ZERO), clock)
    }

    #[test]
    fn a_step_ahead_is_followed_when_it_has_lasted() {
        let (timeline, clock) = timeline();
        clock.set_ms(NOW_MS + DAY_MS);
        assert_eq!(timeline.now_ms(), NOW_MS);
        clock.advance_ms(BELIEVED_MS - 1);
        assert_eq!(timeline.now_ms(), NOW_MS + BELIEVED_MS - 1);
        clock.advance_ms(1);
        assert_eq!(timeline.now_ms(), NOW_MS + DAY_MS + BELIEVED_MS);
    }

    #[test]
    fn a_step_ahead_that_is_taken_back_leaves_no_trace() {
        let (timeline, clock) = timeline();
        clock.set_ms(NOW_MS + DAY_MS);
        timeline.now_ms();
        clock.advance_ms(BELIEVED_MS / 2);
        timeline.now_ms();
        clock.set_ms(NOW_MS + BELIEVED_MS / 2);
        assert_eq!(timeline.now_ms(), NOW_MS + BELIEVED_MS / 2);
        // The next step has to last just as long.
        clock.set_ms(NOW_MS + DAY_MS);
        timeline.now_ms();
        clock.advance_ms(BELIEVED_MS - 1);
        assert!(timeline.now_ms() < NOW_MS + DAY_MS);
    }

    #[test]
    fn a_step_back_halves_the_speed_until_the_clock_has_caught_up() {
        let (timeline, clock) = timeline();
        clock.set_ms(NOW_MS - 60_000);
        for passed_ms in [0, 1, 2, 60_000] {
            clock.set_ms(NOW_MS - 60_000);
            let before_ms = timeline.now_ms();
            clock.advance_ms(passed_ms);
            assert!(timeline.now_ms().abs_diff(before_ms + passed_ms / 2) <= 1);
        }
        clock.set_ms(NOW_MS + 32_000);
        assert_eq!(timeline.now_ms(), NOW_MS + 32_000);
    }

    #[test]
    fn a_start_long_after_the_newest_commit_is_told() {
        for (clock_ms, told) in
            [(NOW_MS - DAY_MS, false), (NOW_MS + DAY_MS, false), (NOW_MS + 30 * DAY_MS, true)]
        {
            assert_eq!(is_long_ago(NOW_MS, clock_ms), told, "{clock_ms}");
        }
    }

    #[test]
    fn a_quiet_hour_is_no_step() {
        let (timeline, clock) = timeline();
        clock.advance_ms(3_600_000);
        assert_eq!(timeline.now_ms(), NOW_MS + 3_600_000);
    }

    /// What happens to a clock.
    #[derive(Clone, Debug)]
    enum Event {
        Passes(u64),
        /// Off the right time by this many milliseconds, ahead or behind.
        IsSet(i64),
        Commits(u16),
        Restarts,
    }

    fn event() -> impl Strategy<Value = Event> {
        let by = -2 * DAY_MS.cast_signed()..2 * DAY_MS.cast_signed();
        prop_oneof![
            4 => (0u64..200_000).prop_map(Event::Passes),
            2 => by.prop_map(Event::IsSet),
            1 => Just(Event::IsSet(0)),
            4 => (1u16..1_000).prop_map(Event::Commits),
            1 => Just(Event::Restarts),
        ]
    }

    proptest! {
        /// Epochs rise whatever the clock does. Commits do not move the timeline. Its lead over the clock
        /// grows only by steps of the clock, and shrinks by half of the time that passes.
        #[test]
        fn epochs_rise_and_time_nears_the_clock(events in prop::collection::vec(event(), 1..60)) {
            let (mut timeline, clock) = timeline();
            let (mut right_ms, mut epoch) = (NOW_MS, Epoch::ZERO);
            for event in events {
                let (before_ms, clock_before_ms) = (timeline.now_ms(), clock.now_ms());
                match event {
                    Event::Passes(ms) => {
                        clock.advance_ms(ms);
                        right_ms += ms;
                        let now_ms = timeline.now_ms();
                        prop_assert!(now_ms >= before_ms + ms / 2);
                        let ahead_ms = before_ms.saturating_sub(clock_before_ms);
                        let left_ms = ahead_ms.saturating_sub(ms / 2);
                        prop_assert!(now_ms <= clock.now_ms() + left_ms + 1);
                    }
                    Event::IsSet(by) => clock.set_ms(right_ms.saturating_add_signed(by)),
                    Event::Commits(count) => {
                        for _ in 0..count {
                            let next = epoch.next(timeline.now_ms());
                            prop_assert!(next > epoch);
                            epoch = next;
                        }
                        prop_assert_eq!(epoch.unix_ms(), timeline.now_ms());
                    }
                    Event::Restarts => {
                        timeline = Timeline::starting_after(Arc::clone(&clock) as _, epoch);
                        prop_assert!(timeline.now_ms() >= epoch.unix_ms());
                    }
                }
            }
        }

        /// Any number of steps ahead, each undone within a minute, has no effect.
        #[test]
        fn short_jumps_leave_no_trace(
            jumps in prop::collection::vec((6_000..10 * DAY_MS, 0..59_000u64, 0..100_000u64), 1..20),
        ) {
            let (timeline, clock) = timeline();
            let mut right_ms = NOW_MS;
            for (by_ms, lasts_ms, pause_ms) in jumps {
                clock.set_ms(right_ms + by_ms);
                prop_assert_eq!(timeline.now_ms(), right_ms);
                clock.advance_ms(lasts_ms);
                right_ms += lasts_ms;
                prop_assert_eq!(timeline.now_ms(), right_ms);
                clock.set_ms(right_ms);
                prop_assert_eq!(timeline.now_ms(), right_ms);
                clock.advance_ms(pause_ms);
                right_ms += pause_ms;
                prop_assert_eq!(timeline.now_ms(), right_ms);
            }
        }
    }
}
