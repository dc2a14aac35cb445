//! Compaction: rewrites the live rows of several files as fewer and cleaner files.
//!
//! By the law, the new files are born at the epoch of the compaction's commit and the old ones die
//! then, so the answer for any epoch does not change. [`pick`] decides what is worth compacting, from
//! the version alone; [`Executor`] does it. A row that is deleted while it is being copied dies in the
//! output too: [`Moved`] records where each row went.

mod executor;
mod moved;
mod picker;

pub use executor::{Compacted, Executor, Inputs};
pub use moved::Moved;
pub use picker::{Limits, Reason, Task, pick, pick_all};
