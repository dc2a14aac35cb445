//! JSON encoding of dead row positions: base64 of the portable Roaring serialization.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use roaring::RoaringBitmap;
use serde::{Deserialize as _, Deserializer, Serializer, de, ser};

pub fn serialize<S: Serializer>(positions: &Arc<RoaringBitmap>, to: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(positions.serialized_size());
    positions.serialize_into(&mut bytes).map_err(ser::Error::custom)?;
    to.serialize_str(&STANDARD_NO_PAD.encode(bytes))
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<RoaringBitmap>, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
    RoaringBitmap::deserialize_from(bytes.as_slice()).map(Arc::new).map_err(de::Error::custom)
}
