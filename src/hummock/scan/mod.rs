//! Reading a table as of an epoch: DataFusion's own Parquet scan over the files alive then.

mod adapter;
mod alive;
mod inline;
mod provider;
mod statistics;

pub use provider::{FILE_COLUMN, POSITION_COLUMN, SstTable};
pub use statistics::StatisticsCache;
