//! Where the rows of a compaction's inputs went.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::hummock::sst::SstInfo;
use crate::id::SstId;

/// A row that was not copied.
const NOWHERE: u32 = u32::MAX;

/// For each position of each input, the place of the row among all rows of the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    inputs: HashMap<SstId, Places>,
    rows: u32,
    /// First row of each output file, in order.
    outputs: Vec<(u32, SstId)>,
}

impl Moved {
    pub fn new<'a>(inputs: impl Iterator<Item = &'a Arc<SstInfo>>) -> Self {
        let places = |sst: &Arc<SstInfo>| {
            let rows = usize::try_from(sst.rows).expect("a file's rows fit in memory");
            (sst.id, Places(vec![NOWHERE; rows]))
        };
        Self { inputs: inputs.map(places).collect(), ..Self::default() }
    }

    /// The next row of the output is the one at `position` of `input`. `None` where there is none
    /// such.
    pub fn push(&mut self, input: SstId, position: i64) -> Option<()> {
        let Places(positions) = self.inputs.get_mut(&input)?;
        *positions.get_mut(usize::try_from(position).ok()?)? = self.rows;
        self.rows = self.rows.checked_add(1).filter(|next| *next != NOWHERE)?;
        Some(())
    }

    /// The rows are in these files, in this order.
    pub fn close(&mut self, outputs: &[Arc<SstInfo>]) {
        let mut first = 0;
        for sst in outputs {
            self.outputs.push((first, sst.id));
            first += u32::try_from(sst.rows).expect("as many rows were written as were counted");
        }
        assert_eq!(first, self.rows, "every row that was read was written");
    }

    pub fn inputs(&self) -> impl Iterator<Item = SstId> {
        self.inputs.keys().copied()
    }

    /// How many rows the inputs have, the dead ones among them.
    pub fn rows_in(&self) -> usize {
        self.inputs.values().map(|places| places.0.len()).sum()
    }

    /// The places in the output of rows at `positions` of `input`, by output file.
    pub fn places(
        &self,
        input: SstId,
        positions: &RoaringBitmap,
    ) -> BTreeMap<SstId, RoaringBitmap> {
        let mut places: BTreeMap<SstId, RoaringBitmap> = BTreeMap::new();
        let Some(Places(moved)) = self.inputs.get(&input) else { return places };
        for position in positions {
            let row = moved.get(position as usize).copied().unwrap_or(NOWHERE);
            if row == NOWHERE {
                continue;
            }
            let at = self.outputs.partition_point(|(first, _)| *first <= row) - 1;
            let (first, sst) = self.outputs[at];
            places.entry(sst).or_default().insert(row - first);
        }
        places
    }
}

/// The place of the row at each position. In JSON: base64 of the zstd-compressed differences of
/// neighbours, which are small and alike, little endian.
#[derive(Clone, Debug)]
struct Places(Vec<u32>);

impl Serialize for Places {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let before = std::iter::once(0).chain(self.0.iter().copied());
        let steps = self.0.iter().zip(before).map(|(place, before)| place.wrapping_sub(before));
        let bytes: Vec<u8> = steps.flat_map(u32::to_le_bytes).collect();
        let bytes = zstd::encode_all(&bytes[..], 1).map_err(ser::Error::custom)?;
        to.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        let bytes = zstd::decode_all(&bytes[..]).map_err(de::Error::custom)?;
        let (steps, []) = bytes.as_chunks() else {
            return Err(de::Error::custom("the places of moved rows are cut off"));
        };
        let places = steps.iter().scan(0_u32, |place, step| {
            *place = place.wrapping_add(u32::from_le_bytes(*step));
            Some(*place)
        });
        Ok(Self(places.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hummock::version::tests::sst;

    #[test]
    fn rows_are_found_in_the_file_they_went_to() {
        let inputs = [sst(1, 3), sst(2, 2)];
        let mut moved = Moved::new(inputs.iter());
        for (input, position) in [(2, 0), (1, 0), (1, 2), (2, 1)] {
            moved.push(SstId(input), position).unwrap();
        }
        moved.close(&[sst(7, 3), sst(8, 1)]);
        let dead = RoaringBitmap::from_iter([0, 1, 2]);
        let places = moved.places(SstId(1), &dead);
        assert_eq!(places, BTreeMap::from([(SstId(7), RoaringBitmap::from_iter([1, 2]))]));
        let places = moved.places(SstId(2), &dead);
        let expected = [(SstId(7), [0]), (SstId(8), [0])];
        assert_eq!(places, expected.map(|(id, at)| (id, RoaringBitmap::from_iter(at))).into());
        let json = serde_json::to_string(&moved).unwrap();
        let read: Moved = serde_json::from_str(&json).unwrap();
        assert_eq!(read.places(SstId(2), &dead), places, "{json}");
        assert!(moved.push(SstId(3), 0).is_none());
        assert!(moved.push(SstId(1), 3).is_none());
    }
}
