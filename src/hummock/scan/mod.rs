//! Reading a table as of an epoch: DataFusion's own Parquet scan over the files alive then.

mod adapter;
mod alive;
mod inline;
mod key_filters;
mod provider;
mod statistics;

pub use key_filters::{KeyFilters, SoughtKeys};
pub use provider::{FILE_COLUMN, POSITION_COLUMN, SstTable, object_of};
pub use statistics::StatisticsCache;
