//! Differences that stay: each is matched by its cause, and documented in `docs/reference.md`.

use crate::compare::Difference;
use crate::wire::Answer;

/// What a difference may be recognised by.
pub struct Case<'c> {
    pub difference: Difference,
    pub postgres: &'c Answer,
}

/// A documented difference.
pub struct Known {
    /// Words of the row in `docs/reference.md`.
    pub documented: &'static str,
    pub is_cause: fn(&Case<'_>) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        documented: "trailing zeros of the fraction are not shown",
        is_cause: |case| case.difference == Difference::Digits && !is_float(case.postgres),
    },
    Known {
        documented: "a row with an existing primary key **overwrites** the old one",
        is_cause: |case| code(case.postgres) == "23505",
    },
];

/// The documented difference that this is, if it is one.
pub fn known(case: &Case<'_>) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.is_cause)(case))
}

const FLOATS: [u32; 2] = [700, 701];

fn is_float(answer: &Answer) -> bool {
    match answer {
        Answer::Rows { columns, .. } => {
            columns.iter().any(|column| FLOATS.contains(&column.type_oid))
        }
        _ => false,
    }
}

fn code(answer: &Answer) -> &str {
    match answer {
        Answer::Error { code, .. } => code,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_difference_is_documented() {
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
        let text = std::fs::read_to_string(reference).unwrap();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for known in KNOWN {
            assert!(words(&text).contains(&words(known.documented)), "{}", known.documented);
        }
    }
}
