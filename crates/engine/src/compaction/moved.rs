//! Maps the rows of a compaction's inputs to their positions in the outputs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::SstId;
use tidemark_ledger::sst::SstInfo;

/// Marks a row that was not copied.
const NOWHERE: u32 = u32::MAX;

/// For each position of each input, the number of the row among all rows of the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    inputs: HashMap<SstId, OutputRows>,
    rows: u32,
    /// Number of the first row of each output file, in order.
    outputs: Vec<(u32, SstId)>,
}

impl Moved {
    pub fn new<'a>(inputs: impl Iterator<Item = &'a Arc<SstInfo>>) -> Self {
        let uncopied = |sst: &Arc<SstInfo>| {
            let rows = usize::try_from(sst.rows).expect("a file's rows fit in memory");
            (sst.id, OutputRows(vec![NOWHERE; rows]))
        };
        Self { inputs: inputs.map(uncopied).collect(), ..Self::default() }
    }

    /// Records that the next row of the output is the one at `position` of `input`. `None` if there is
    /// no such row, or if there are more rows than can be numbered.
    pub fn push(&mut self, input: SstId, position: i64) -> Option<()> {
        let OutputRows(positions) = self.inputs.get_mut(&input)?;
        *positions.get_mut(usize::try_from(position).ok()?)? = self.rows;
        self.rows = self.rows.checked_add(1).filter(|next| *next != NOWHERE)?;
        Some(())
    }

    /// Records that the rows are in these files, in this order. Panics if the row counts do not match.
    pub fn close(&mut self, outputs: &[Arc<SstInfo>]) {
        let mut first = 0;
        for sst in outputs {
            self.outputs.push((first, sst.id));
            first += u32::try_from(sst.rows).expect("as many rows were written as were counted");
        }
        assert_eq!(first, self.rows, "every row that was read was written");
    }

    /// For each input, the positions of the rows that are not alive in the outputs once the `dead` rows
    /// have died there.
    ///
    /// # Errors
    /// [`HummockError::Corrupt`] if `born` does not hold each moved row exactly once, or if `dead`
    /// names rows of other files.
    pub fn left_out<'a>(
        &self,
        born: &[Arc<SstInfo>],
        dead: impl Iterator<Item = (SstId, &'a RoaringBitmap)>,
    ) -> Result<BTreeMap<SstId, RoaringBitmap>, HummockError> {
        let mut alive = self.output_rows(born)?;
        for (sst, positions) in dead {
            let of_file = self.outputs.iter().find(|(_, output)| *output == sst);
            let (first, _) = of_file.ok_or_else(|| unsound("rows of another file are dead"))?;
            for position in positions {
                let row = first.checked_add(position).ok_or_else(|| unsound("no such row"))?;
                alive.remove(row);
            }
        }
        let mut unseen = self.output_rows(born)?;
        let mut left_out = BTreeMap::new();
        for (input, OutputRows(output_rows)) in &self.inputs {
            let mut gone = RoaringBitmap::new();
            for (position, row) in (0..).zip(output_rows) {
                if *row != NOWHERE && !unseen.remove(*row) {
                    return Err(unsound("two rows are in one place, or one is in none"));
                }
                if *row == NOWHERE || !alive.contains(*row) {
                    gone.insert(position);
                }
            }
            left_out.insert(*input, gone);
        }
        match unseen.is_empty() {
            true => Ok(left_out),
            false => Err(unsound("there are rows that come from nowhere")),
        }
    }

    /// The numbers of all output rows. An error if the output files are not `born`.
    fn output_rows(&self, born: &[Arc<SstInfo>]) -> Result<RoaringBitmap, HummockError> {
        let mut first = 0_u64;
        let firsts = born.iter().map(|sst| {
            let at = first;
            first += sst.rows;
            (at, sst.id)
        });
        let same = firsts.eq(self.outputs.iter().map(|(first, sst)| (u64::from(*first), *sst)));
        match same && first == u64::from(self.rows) {
            true => Ok((0..self.rows).collect()),
            false => Err(unsound("the files are not those the rows went to")),
        }
    }

    pub fn inputs(&self) -> impl Iterator<Item = SstId> {
        self.inputs.keys().copied()
    }

    /// Number of rows of the inputs, including dead ones.
    pub fn rows_in(&self) -> usize {
        self.inputs.values().map(|rows| rows.0.len()).sum()
    }

    /// The output positions of the rows at `positions` of `input`, by output file.
    pub fn output_positions(
        &self,
        input: SstId,
        positions: &RoaringBitmap,
    ) -> BTreeMap<SstId, RoaringBitmap> {
        let mut by_output: BTreeMap<SstId, RoaringBitmap> = BTreeMap::new();
        let Some(OutputRows(moved)) = self.inputs.get(&input) else { return by_output };
        for position in positions {
            let row = moved.get(position as usize).copied().unwrap_or(NOWHERE);
            if row == NOWHERE {
                continue;
            }
            let at = self.outputs.partition_point(|(first, _)| *first <= row) - 1;
            let (first, sst) = self.outputs[at];
            by_output.entry(sst).or_default().insert(row - first);
        }
        by_output
    }
}

fn unsound(what: &str) -> HummockError {
    HummockError::Corrupt(format!("a compaction is not sound: {what}"))
}

/// The output row number at each input position. In JSON: base64 of the zstd-compressed differences of
/// neighbours, which are small and similar, as little-endian `u32`.
#[derive(Clone, Debug)]
struct OutputRows(Vec<u32>);

impl Serialize for OutputRows {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let before = std::iter::once(0).chain(self.0.iter().copied());
        let steps = self.0.iter().zip(before).map(|(row, before)| row.wrapping_sub(before));
        let bytes: Vec<u8> = steps.flat_map(u32::to_le_bytes).collect();
        let bytes = zstd::encode_all(&bytes[..], 1).map_err(ser::Error::custom)?;
        to.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for OutputRows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        let bytes = zstd::decode_all(&bytes[..]).map_err(de::Error::custom)?;
        let (steps, []) = bytes.as_chunks() else {
            return Err(de::Error::custom("the places of moved rows are cut off"));
        };
        let rows = steps.iter().scan(0_u32, |row, step| {
            *row = row.wrapping_add(u32::from_le_bytes(*step));
            Some(*row)
        });
        Ok(Self(rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_ledger::version::sample::sst;

    #[test]
    fn rows_are_found_in_the_file_they_went_to() {
        let inputs = [sst(1, 3), sst(2, 2)];
        let mut moved = Moved::new(inputs.iter());
        for (input, position) in [(2, 0), (1, 0), (1, 2), (2, 1)] {
            moved.push(SstId(input), position).unwrap();
        }
        moved.close(&[sst(7, 3), sst(8, 1)]);
        let dead = RoaringBitmap::from_iter([0, 1, 2]);
        let positions = moved.output_positions(SstId(1), &dead);
        assert_eq!(positions, BTreeMap::from([(SstId(7), RoaringBitmap::from_iter([1, 2]))]));
        let positions = moved.output_positions(SstId(2), &dead);
        let expected = [(SstId(7), [0]), (SstId(8), [0])];
        assert_eq!(positions, expected.map(|(id, at)| (id, RoaringBitmap::from_iter(at))).into());
        let json = serde_json::to_string(&moved).unwrap();
        let read: Moved = serde_json::from_str(&json).unwrap();
        assert_eq!(read.output_positions(SstId(2), &dead), positions, "{json}");
        assert!(moved.push(SstId(3), 0).is_none());
        assert!(moved.push(SstId(1), 3).is_none());
    }

    /// Row 1 of file 1 is not copied; the others went to files 7 and 8.
    fn two_to_two() -> Moved {
        let mut moved = Moved::new([sst(1, 3), sst(2, 2)].iter());
        for (input, position) in [(2, 0), (1, 0), (1, 2), (2, 1)] {
            moved.push(SstId(input), position).unwrap();
        }
        moved.close(&[sst(7, 3), sst(8, 1)]);
        moved
    }

    #[test]
    fn what_is_left_out_is_what_was_not_copied_and_what_died_in_the_copies() {
        let born = [sst(7, 3), sst(8, 1)];
        let dead = RoaringBitmap::from_iter([2]);
        let left_out = two_to_two().left_out(&born, [(SstId(7), &dead)].into_iter()).unwrap();
        let expected = [(SstId(1), vec![1, 2]), (SstId(2), vec![])];
        let expected = expected.map(|(sst, at)| (sst, RoaringBitmap::from_iter(at)));
        assert_eq!(left_out, expected.into());
    }

    #[test]
    fn a_move_that_is_not_one_to_one_is_refused() {
        let born = [sst(7, 3), sst(8, 1)];
        let refused = |edit: fn(&mut Moved)| {
            let mut moved = two_to_two();
            edit(&mut moved);
            moved.left_out(&born, std::iter::empty()).is_err()
        };
        assert!(!refused(|_| {}));
        fn of(moved: &mut Moved, row: u32) {
            moved.inputs.get_mut(&SstId(1)).unwrap().0[0] = row;
        }
        assert!(refused(|moved| of(moved, 3)), "two rows at one position");
        assert!(refused(|moved| of(moved, 9)), "a row that is not there");
        assert!(refused(|moved| of(moved, NOWHERE)), "a row that comes from nowhere");
        assert!(
            two_to_two().left_out(&[sst(7, 3)], std::iter::empty()).is_err(),
            "a file is missing"
        );
        let other = RoaringBitmap::from_iter([0]);
        let dead = [(SstId(9), &other)].into_iter();
        assert!(two_to_two().left_out(&born, dead).is_err(), "rows of another file are dead");
    }
}
