//! The age of entries dated in the future, which a clock that was ahead has dated.

use std::collections::HashMap;

use chrono::DateTime;
use object_store::ObjectMeta;

use tidemark_ledger::epoch::AHEAD_MS_MAX;
use tidemark_ledger::storage::Leftover;

/// An entry of a listing, with a date.
pub trait Dated {
    fn name(&self) -> String;
    fn modified_ms(&self) -> u64;
    fn set_modified_ms(&mut self, modified_ms: u64);
}

impl Dated for ObjectMeta {
    fn name(&self) -> String {
        self.location.to_string()
    }

    fn modified_ms(&self) -> u64 {
        u64::try_from(self.last_modified.timestamp_millis()).unwrap_or_default()
    }

    fn set_modified_ms(&mut self, modified_ms: u64) {
        let modified_ms = i64::try_from(modified_ms).unwrap_or(i64::MAX);
        let modified = DateTime::from_timestamp_millis(modified_ms);
        self.last_modified = modified.unwrap_or(self.last_modified);
    }
}

impl Dated for Leftover {
    fn name(&self) -> String {
        self.path()
    }

    fn modified_ms(&self) -> u64 {
        self.modified_ms
    }

    fn set_modified_ms(&mut self, modified_ms: u64) {
        self.modified_ms = modified_ms;
    }
}

/// The time by the clock that dates entries, and by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall_ms: u64,
    pub monotonic_ms: u64,
}

/// Entries dated in the future: by listing and name, when each was first seen, in ms of the monotonic clock.
#[derive(Debug, Default)]
pub struct Misdated(HashMap<String, HashMap<String, u64>>);

impl Misdated {
    /// Dates the entries of a listing by how long they have been seen; forgets those that are no longer
    /// listed.
    pub fn date<T: Dated>(&mut self, listing: &str, things: &mut [T], now: Now) {
        let mut seen = HashMap::new();
        for thing in things {
            if let Some(since_ms) = self.date_one(listing, thing, now) {
                seen.insert(thing.name(), since_ms);
            }
        }
        match seen.is_empty() {
            true => self.0.remove(listing),
            false => self.0.insert(listing.to_owned(), seen),
        };
    }

    /// Dates one entry. Returns when it was first seen, if its date is in the future.
    pub fn date_one<T: Dated>(&self, listing: &str, thing: &mut T, now: Now) -> Option<u64> {
        if thing.modified_ms() <= now.wall_ms.saturating_add(AHEAD_MS_MAX) {
            return None;
        }
        let since_ms = self.0.get(listing).and_then(|seen| seen.get(&thing.name())).copied();
        let since_ms = since_ms.unwrap_or(now.monotonic_ms);
        let age_ms = now.monotonic_ms.saturating_sub(since_ms);
        thing.set_modified_ms(now.wall_ms.saturating_sub(age_ms));
        Some(since_ms)
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const DAY_MS: u64 = 86_400_000;

    fn object(name: &str, written_ms: u64) -> ObjectMeta {
        let written_ms = written_ms.cast_signed();
        ObjectMeta {
            location: Path::from(name),
            last_modified: DateTime::from_timestamp_millis(written_ms).unwrap(),
            size: 10,
            e_tag: None,
            version: None,
        }
    }

    fn leftover(name: &str, modified_ms: u64) -> Leftover {
        Leftover { directory: Path::from("d"), name: name.to_owned(), size_bytes: 1, modified_ms }
    }

    /// The time that has passed since the first listing, added to both clocks.
    fn now(passed_ms: u64) -> Now {
        Now { wall_ms: NOW_MS + passed_ms, monotonic_ms: 100 + passed_ms }
    }

    fn ages<T: Dated>(things: &[T], now: Now) -> Vec<u64> {
        things.iter().map(|thing| now.wall_ms - thing.modified_ms()).collect()
    }

    #[test]
    fn what_is_dated_in_the_future_is_as_old_as_it_has_been_seen() {
        let objects = || [object("1.data", NOW_MS + DAY_MS), object("2.data", NOW_MS - 7)];
        let leftovers = || [leftover("1.data#3", NOW_MS + DAY_MS), leftover(".probe-a", NOW_MS)];
        let mut misdated = Misdated::default();
        for passed_ms in [0, 5_000, 60_000] {
            let (mut objects, mut leftovers, now) = (objects(), leftovers(), now(passed_ms));
            misdated.date("objects", &mut objects, now);
            misdated.date("leftovers", &mut leftovers, now);
            assert_eq!(ages(&objects, now), [passed_ms, passed_ms + 7]);
            assert_eq!(ages(&leftovers, now), [passed_ms, passed_ms]);
        }
        let mut one = leftover("1.data#3", NOW_MS + DAY_MS);
        assert_eq!(misdated.date_one("leftovers", &mut one, now(70_000)), Some(100));
        assert_eq!(misdated.date_one("elsewhere", &mut one, now(70_000)), None, "it is dated now");
        // The clock has caught up.
        let mut caught_up = objects();
        misdated.date("objects", &mut caught_up, now(DAY_MS));
        assert_eq!(caught_up, objects());
        assert_eq!(misdated.0.keys().collect::<Vec<_>>(), ["leftovers"]);
        misdated.date("leftovers", &mut [leftover(".probe-a", NOW_MS)], now(DAY_MS));
        assert!(misdated.0.is_empty());
    }
}
