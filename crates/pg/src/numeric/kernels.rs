//! Operations on whole arrays of numeric values in their byte form.

use datafusion::arrow::array::{Array as _, BinaryViewArray, BinaryViewBuilder};

use super::{Numeric, Result, decode, encode_into};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Applies `operation` to the values of each row. A null operand gives null.
///
/// Both arrays have the same length.
pub fn binary(
    left: &BinaryViewArray,
    right: &BinaryViewArray,
    operation: impl Fn(&Numeric, &Numeric) -> Result<Numeric>,
) -> Result<BinaryViewArray> {
    assert_eq!(left.len(), right.len(), "operands are of the same rows");
    let pairs = left.iter().zip(right.iter()).map(|(left, right)| left.zip(right));
    collect(pairs, |(left, right)| operation(&read(left)?, &read(right)?))
}

/// Applies `operation` to the value of each row. Null gives null.
pub fn unary(
    values: &BinaryViewArray,
    operation: impl Fn(&Numeric) -> Result<Numeric>,
) -> Result<BinaryViewArray> {
    collect(values.iter(), |bytes| operation(&read(bytes)?))
}

fn collect<T>(
    rows: impl Iterator<Item = Option<T>>,
    operation: impl Fn(T) -> Result<Numeric>,
) -> Result<BinaryViewArray> {
    let mut out = BinaryViewBuilder::with_capacity(rows.size_hint().0);
    let mut bytes = vec![];
    for row in rows {
        let Some(row) = row else {
            out.append_null();
            continue;
        };
        bytes.clear();
        encode_into(&operation(row)?, &mut bytes);
        out.append_value(&bytes);
    }
    Ok(out.finish())
}

/// Reads the bytes of a value in an array.
pub fn read(bytes: &[u8]) -> Result<Numeric> {
    decode(bytes).map_err(|error| SqlError::new(SqlState::DATA_CORRUPTED, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::encode;

    fn array(texts: &[Option<&str>]) -> BinaryViewArray {
        let bytes = texts.iter().map(|text| text.map(|t| encode(&t.parse().unwrap())));
        bytes.collect()
    }

    #[test]
    fn null_operands_give_null() {
        let left = array(&[Some("1.50"), None, Some("NaN")]);
        let right = array(&[Some("2"), Some("1"), Some("1")]);
        let sums = binary(&left, &right, Numeric::add).unwrap();
        assert_eq!(sums, array(&[Some("3.50"), None, Some("NaN")]));
        let negated = unary(&left, |value| Ok(value.neg())).unwrap();
        assert_eq!(negated, array(&[Some("-1.50"), None, Some("NaN")]));
    }

    #[test]
    fn errors_end_the_batch() {
        let (left, right) = (array(&[Some("1")]), array(&[Some("0")]));
        let error = binary(&left, &right, Numeric::div).unwrap_err();
        assert_eq!(error.sqlstate, SqlState::DIVISION_BY_ZERO);
        let damaged = BinaryViewArray::from_iter_values([b"\x07\0\0"]);
        let error = unary(&damaged, |value| Ok(value.neg())).unwrap_err();
        assert_eq!(error.sqlstate, SqlState::DATA_CORRUPTED);
    }
}
