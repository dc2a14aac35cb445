//! Reading a table as of an epoch: DataFusion's own Parquet scan over the files alive then.

mod adapter;
mod alive;
mod inline;
mod key_filters;
mod provider;
mod sought;
mod statistics;

pub use key_filters::{KeyFilters, SoughtKeys};
pub use provider::{FILE_COLUMN, Files, POSITION_COLUMN, SstTable};
pub use statistics::StatisticsCache;
