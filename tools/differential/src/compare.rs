//! Whether two answers say the same, and if not, how they differ.

use crate::wire::{Answer, Cell, Column, Row};

/// How answers differ, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// Tidemark's session ended, or was silent.
    Lost,
    /// Other values in as many rows.
    Values,
    /// More or fewer rows.
    Count,
    /// The same rows in another order, though the query orders them.
    Sequence,
    /// The same numbers with other digits, such as 1.0 and 1.00.
    Digits,
    /// Values in place of PostgreSQL's error.
    TheyRefuse,
    /// Other types of columns.
    Types,
    /// Other names of columns, or another tag.
    Names,
    /// An error that Tidemark calls its own bug.
    Internal,
    /// Errors of different classes.
    Errors,
    /// An error in place of PostgreSQL's values.
    WeRefuse,
}

pub const DIFFERENCES: &[Difference] = &[
    Difference::Lost,
    Difference::Values,
    Difference::Count,
    Difference::Sequence,
    Difference::Digits,
    Difference::TheyRefuse,
    Difference::Types,
    Difference::Names,
    Difference::Internal,
    Difference::Errors,
    Difference::WeRefuse,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    BothRefuse,
    /// PostgreSQL gave up: there is nothing to compare with.
    NoAnswer,
    Differ(Difference),
}

/// How exactly rows are compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exactness {
    pub is_ordered: bool,
    /// The last digits of floats do not matter: they depend on the order in which rows are added up.
    pub is_approximate: bool,
}

impl Difference {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "session lost",
            Self::Values => "values",
            Self::Count => "number of rows",
            Self::Sequence => "order of rows",
            Self::Digits => "digits of numbers",
            Self::TheyRefuse => "they refuse",
            Self::Types => "types",
            Self::Names => "names",
            Self::Internal => "XX000",
            Self::Errors => "class of the error",
            Self::WeRefuse => "we refuse",
        }
    }

    /// A clear refusal is no wrong answer.
    pub fn is_wrong(self) -> bool {
        !matches!(self, Self::WeRefuse | Self::Errors)
    }
}

pub fn compare(postgres: &Answer, tidemark: &Answer, exactness: Exactness) -> Verdict {
    match (postgres, tidemark) {
        (Answer::Lost { .. }, _) => Verdict::NoAnswer,
        // A timeout says nothing about the answer.
        (Answer::Error { code, .. }, _) | (_, Answer::Error { code, .. }) if code == "57014" => {
            Verdict::NoAnswer
        }
        (_, Answer::Lost { .. }) => Verdict::Differ(Difference::Lost),
        (_, Answer::Error { code, .. }) if code == "XX000" => Verdict::Differ(Difference::Internal),
        (Answer::Error { code, .. }, Answer::Error { code: other, .. }) => errors(code, other),
        (Answer::Error { .. }, _) => Verdict::Differ(Difference::TheyRefuse),
        (_, Answer::Error { .. }) => Verdict::Differ(Difference::WeRefuse),
        (Answer::Done { tag }, Answer::Done { tag: other }) if tag == other => Verdict::Equal,
        (
            Answer::Rows { columns, rows },
            Answer::Rows { columns: other_columns, rows: other_rows },
        ) => {
            let difference = rows_differ(columns, rows, other_rows, exactness)
                .or_else(|| columns_differ(columns, other_columns));
            difference.map_or(Verdict::Equal, Verdict::Differ)
        }
        _ => Verdict::Differ(Difference::Names),
    }
}

/// The first two letters are the class. A feature that is not there may be refused before anything else.
fn errors(code: &str, other: &str) -> Verdict {
    let class = |code: &str| code.get(..2).map(str::to_owned);
    if class(code) == class(other) || other == "0A000" {
        return Verdict::BothRefuse;
    }
    Verdict::Differ(Difference::Errors)
}

fn columns_differ(columns: &[Column], other: &[Column]) -> Option<Difference> {
    let types =
        |columns: &[Column]| columns.iter().map(|column| column.type_oid).collect::<Vec<_>>();
    if types(columns) != types(other) {
        return Some(Difference::Types);
    }
    (columns != other).then_some(Difference::Names)
}

fn rows_differ(
    columns: &[Column],
    rows: &[Row],
    other: &[Row],
    exactness: Exactness,
) -> Option<Difference> {
    if rows.len() != other.len() {
        return Some(Difference::Count);
    }
    let forms: &[Form] =
        if exactness.is_approximate { &[Form::Approximate] } else { &[Form::Exact] };
    for form in forms.iter().copied().chain([Form::Canonical]) {
        let read =
            |rows: &[Row]| rows.iter().map(|row| canonical(row, columns, form)).collect::<Vec<_>>();
        let (ours, theirs) = (read(rows), read(other));
        let is_first = form != Form::Canonical;
        if exactness.is_ordered && ours == theirs {
            return (!is_first).then_some(Difference::Digits);
        }
        if sorted(ours) == sorted(theirs) {
            return match (is_first, exactness.is_ordered) {
                (_, true) => Some(Difference::Sequence),
                (true, false) => None,
                (false, false) => Some(Difference::Digits),
            };
        }
    }
    Some(Difference::Values)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Exact,
    /// Floats with fewer digits.
    Approximate,
    /// Numbers of any kind by their value.
    Canonical,
}

fn canonical(row: &Row, columns: &[Column], form: Form) -> Row {
    let cell = |(at, cell): (usize, &Cell)| {
        let of = columns.get(at).map_or(0, |column| column.type_oid);
        cell.as_ref().map(|text| rewritten(text, of, form))
    };
    row.iter().enumerate().map(cell).collect()
}

const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const NUMERIC: u32 = 1700;

fn rewritten(text: &str, of: u32, form: Form) -> String {
    let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (form, of) {
        (Form::Approximate, FLOAT4) => number().map(|number| format!("{number:.4e}")),
        (Form::Approximate, FLOAT8 | NUMERIC) => number().map(|number| format!("{number:.9e}")),
        (Form::Canonical, _) if text.bytes().any(|byte| byte.is_ascii_digit()) => {
            number().map(|number| format!("{number:.9e}"))
        }
        _ => None,
    }
    .unwrap_or_else(|| text.to_owned())
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(type_oid: u32, values: &[&str]) -> Answer {
        let columns = vec![Column { name: "a".to_owned(), type_oid }];
        Answer::Rows {
            columns,
            rows: values.iter().map(|value| vec![Some((*value).to_owned())]).collect(),
        }
    }

    fn error(code: &str) -> Answer {
        Answer::Error { code: code.to_owned(), message: String::new() }
    }

    #[test]
    fn rows_are_a_multiset_unless_they_are_ordered() {
        let (a, b) = (rows(25, &["x", "y"]), rows(25, &["y", "x"]));
        let ordered = Exactness { is_ordered: true, is_approximate: false };
        assert_eq!(compare(&a, &b, Exactness::default()), Verdict::Equal);
        assert_eq!(compare(&a, &b, ordered), Verdict::Differ(Difference::Sequence));
    }

    #[test]
    fn a_difference_is_called_by_its_most_serious_name() {
        let exact = Exactness::default();
        let differ = Verdict::Differ;
        assert_eq!(
            compare(&rows(23, &["1"]), &rows(20, &["2"]), exact),
            differ(Difference::Values)
        );
        assert_eq!(compare(&rows(23, &["1"]), &rows(20, &["1"]), exact), differ(Difference::Types));
        assert_eq!(
            compare(&rows(1700, &["1.0"]), &rows(1700, &["1"]), exact),
            differ(Difference::Digits)
        );
        assert_eq!(
            compare(&error("22012"), &rows(20, &["1"]), exact),
            differ(Difference::TheyRefuse)
        );
        assert_eq!(
            compare(&rows(20, &["1"]), &error("42883"), exact),
            differ(Difference::WeRefuse)
        );
        assert_eq!(compare(&error("22012"), &error("XX000"), exact), differ(Difference::Internal));
        assert_eq!(compare(&error("22012"), &error("22003"), exact), Verdict::BothRefuse);
    }

    #[test]
    fn the_last_digits_of_a_sum_of_floats_do_not_matter() {
        let (a, b) = (rows(701, &["0.30000000000000004"]), rows(701, &["0.3"]));
        let about = Exactness { is_ordered: false, is_approximate: true };
        assert_eq!(compare(&a, &b, about), Verdict::Equal);
        assert_eq!(compare(&a, &b, Exactness::default()), Verdict::Differ(Difference::Digits));
    }
}
