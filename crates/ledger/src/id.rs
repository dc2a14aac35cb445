//! Identifiers as distinct types, so that a table's number is never mistaken for a file's.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// A catalog object: schema, table or view. Shown to users as its oid; never used twice.
    ObjectId(u32)
}
id! {
    /// A column within its table; never used twice in one table. Parquet stores it as field id.
    ColumnId(i32)
}
id! {
    /// One immutable data file; never used twice in one data directory.
    SstId(u64)
}
id! {
    /// One version of the store; rises by one with every change of the file set.
    VersionId(u64)
}
id! {
    /// A meta snapshot; rises from 1, never used twice in one backup location.
    SnapshotId(u64)
}
