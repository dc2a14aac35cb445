//! Results of a query in a form that compares across a wire and an Arrow batch.

use std::cmp::Ordering;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::Fallible;

/// How far two numbers may be apart, by their size: sums of floats depend on their order.
const TOLERANCE: f64 = 1e-6;

type Row = Vec<Option<String>>;

/// Rows as text.
pub struct Results(Vec<Row>);

impl Results {
    pub fn new(rows: Vec<Row>) -> Self {
        Self(rows)
    }

    pub fn of_batches(batches: &[RecordBatch]) -> Fallible<Self> {
        let mut rows = vec![];
        for batch in batches {
            let format = FormatOptions::default();
            let columns = batch
                .columns()
                .iter()
                .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &format)?)))
                .collect::<Fallible<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                let cells = columns.iter().map(|(column, text)| {
                    column.is_valid(row).then(|| text.value(row).to_string())
                });
                rows.push(cells.collect());
            }
        }
        Ok(Self(rows))
    }

    pub fn row_count(&self) -> usize {
        self.0.len()
    }

    pub fn first_cell(&self) -> Option<&str> {
        self.cell(0, 0)
    }

    pub fn cell(&self, row: usize, column: usize) -> Option<&str> {
        self.0.get(row)?.get(column)?.as_deref()
    }

    /// Whether the rows are the same; those that an `ORDER BY` leaves open may come in any order.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && (alike(&self.0, &other.0) || alike(&self.sorted(), &other.sorted()))
    }

    fn sorted(&self) -> Vec<Row> {
        let mut rows = self.0.clone();
        rows.sort_by(|a, b| {
            let cells = a.iter().zip(b).map(|(a, b)| order(a.as_deref(), b.as_deref()));
            cells.fold(Ordering::Equal, Ordering::then)
        });
        rows
    }
}

fn alike(one: &[Row], other: &[Row]) -> bool {
    one.iter().zip(other).all(|(a, b)| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a.as_deref(), b.as_deref()))
    })
}

fn same(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a == b };
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= TOLERANCE * x.abs().max(y.abs()).max(1.0),
        _ => a == b,
    }
}

fn order(a: Option<&str>, b: Option<&str>) -> Ordering {
    match (a.map(str::parse::<f64>), b.map(str::parse::<f64>)) {
        (Some(Ok(x)), Some(Ok(y))) if same(a, b) || x == y => Ordering::Equal,
        (Some(Ok(x)), Some(Ok(y))) => x.total_cmp(&y),
        _ => a.cmp(&b),
    }
}
