//! The capabilities of a store that the guarantees of this module depend on.

use std::fmt;

/// One thing that a store must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Write,
    ReadAfterWrite,
    /// A create fails if the object exists. Without it two servers can take one data directory.
    ConditionalCreate,
    /// A replace fails if the object has changed since it was read. Without it two servers can have one
    /// lease.
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
