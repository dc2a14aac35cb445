//! Differences that stay: each is matched by its cause, and documented in `docs/reference.md`.

use crate::compare::Difference;
use crate::wire::Answer;

/// What a difference may be recognised by.
pub struct Case<'c> {
    pub difference: Difference,
    pub postgres: &'c Answer,
    pub tidemark: &'c Answer,
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
    Known {
        documented: "an expression that no row needs is not evaluated",
        is_cause: |case| {
            case.difference == Difference::TheyRefuse
                && is_of_a_value(case)
                && has_no_rows(case.tidemark)
        },
    },
    Known {
        documented: "`FULL JOIN` takes any condition",
        is_cause: |case| error(case.postgres).starts_with("FULL JOIN is only supported"),
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

/// Class 22 holds the errors of values, which depend on whether an expression is evaluated.
fn is_of_a_value(case: &Case<'_>) -> bool {
    code(case.postgres).starts_with("22")
}

fn has_no_rows(answer: &Answer) -> bool {
    match answer {
        Answer::Rows { rows, .. } => rows.is_empty(),
        Answer::Done { tag } => tag.ends_with(" 0"),
        _ => false,
    }
}

fn error(answer: &Answer) -> &str {
    match answer {
        Answer::Error { message, .. } => message,
        _ => "",
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
