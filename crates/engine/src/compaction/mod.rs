//! Compaction: the live rows of several files are written once more, as fewer and cleaner files.
//!
//! By the law, the new files are born at the epoch of the compaction's commit and the old ones die
//! then, so no epoch gets another answer. [`pick`] decides what is worth it, from the version alone;
//! [`Executor`] does it. A row that is deleted while it is being copied dies in its new place too:
//! [`Moved`] knows where each row went.

mod executor;
mod moved;
mod picker;

pub use executor::{Compacted, Executor, Inputs};
pub use moved::Moved;
pub use picker::{Limits, Reason, Task, pick, pick_all};
