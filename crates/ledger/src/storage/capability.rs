//! What the promises of this module need of a store.

use std::fmt;

/// One thing that a store must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Write,
    ReadAfterWrite,
    /// An object that is there is not written anew. Without it two servers can take one data directory.
    ConditionalCreate,
    /// An object is replaced only while it is what was read. Without it two servers can have one lease.
    ConditionalReplace,
    ListAfterWrite,
    Delete,
}

impl Capability {
    pub const ALL: [Self; 6] = [
        Self::Write,
        Self::ReadAfterWrite,
        Self::ConditionalCreate,
        Self::ConditionalReplace,
        Self::ListAfterWrite,
        Self::Delete,
    ];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Write => "write",
            Self::ReadAfterWrite => "read after write",
            Self::ConditionalCreate => "conditional create",
            Self::ConditionalReplace => "conditional replace",
            Self::ListAfterWrite => "list after write",
            Self::Delete => "delete",
        })
    }
}
