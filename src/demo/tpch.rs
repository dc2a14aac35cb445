//! The eight TPC-H tables: their definitions, their generated rows, and fingerprint queries over their
//! contents.

use std::fmt::{Display, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt as _, pin_mut};
use indicatif::ProgressBar;
use tokio_postgres::Client;
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSupp,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

/// Target size of one `CopyData` message.
const CHUNK_BYTES: usize = 256 << 10;

/// Comments are cut from a pool of generated text. The standard's pool takes seconds to generate, which
/// is too long for a small scale.
const SMALL_POOL_BYTES: i32 = 4 << 20;

/// One TPC-H table.
pub struct Table {
    pub name: &'static str,
    /// The `CREATE TABLE` statement.
    pub ddl: &'static str,
    /// Aggregates that together change with any damage the demo does. They are exact and do not depend
    /// on row order.
    fingerprint: &'static str,
    rows: fn(f64) -> Chunks,
}

/// Rows as text, some thousand per chunk.
type Chunks = Box<dyn Iterator<Item = Chunk> + Send>;

/// Rows in the text format of `COPY`, separated by `|`.
struct Chunk {
    text: Bytes,
    rows: u64,
}

/// The result of a load.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Rows that the server reports as copied.
    pub rows: u64,
    /// Rows that were sent.
    pub sent: u64,
    pub elapsed: Duration,
}

impl Loaded {
    #[expect(clippy::cast_precision_loss, reason = "a speed is not exact")]
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.elapsed.as_secs_f64().max(0.001)
    }
}

pub const TABLES: [Table; 8] = [
    Table {
        name: "region",
        ddl: "CREATE TABLE region (\n  \
              r_regionkey integer, r_name varchar, r_comment varchar,\n  \
              PRIMARY KEY (r_regionkey))",
        fingerprint: "sum(r_regionkey), min(r_name), max(r_name), sum(length(r_comment))",
        rows: region,
    },
    Table {
        name: "nation",
        ddl: "CREATE TABLE nation (\n  \
              n_nationkey integer, n_name varchar, n_regionkey integer, n_comment varchar,\n  \
              PRIMARY KEY (n_nationkey))",
        fingerprint: "sum(n_nationkey * n_regionkey), min(n_name), max(n_name), \
                      sum(length(n_comment))",
        rows: nation,
    },
    Table {
        name: "supplier",
        ddl: "CREATE TABLE supplier (\n  \
              s_suppkey integer, s_name varchar, s_address varchar, s_nationkey integer,\n  \
              s_phone varchar, s_acctbal numeric(15,2), s_comment varchar,\n  \
              PRIMARY KEY (s_suppkey))",
        fingerprint: "sum(s_suppkey % 97 * s_nationkey), sum(s_acctbal), min(s_address), \
                      max(s_phone), sum(length(s_comment))",
        rows: supplier,
    },
    Table {
        name: "part",
        ddl: "CREATE TABLE part (\n  \
              p_partkey integer, p_name varchar, p_mfgr varchar, p_brand varchar,\n  \
              p_type varchar, p_size integer, p_container varchar,\n  \
              p_retailprice numeric(15,2), p_comment varchar,\n  \
              PRIMARY KEY (p_partkey))",
        fingerprint: "sum(p_partkey % 97 * p_size), sum(p_retailprice), min(p_name), max(p_type), \
                      sum(length(p_comment))",
        rows: part,
    },
    Table {
        name: "partsupp",
        ddl: "CREATE TABLE partsupp (\n  \
              ps_partkey integer, ps_suppkey integer, ps_availqty integer,\n  \
              ps_supplycost numeric(15,2), ps_comment varchar,\n  \
              PRIMARY KEY (ps_partkey, ps_suppkey))",
        fingerprint: "sum(ps_partkey % 97 * ps_suppkey), sum(ps_availqty), sum(ps_supplycost), \
                      sum(length(ps_comment))",
        rows: partsupp,
    },
    Table {
        name: "customer",
        ddl: "CREATE TABLE customer (\n  \
              c_custkey integer, c_name varchar, c_address varchar, c_nationkey integer,\n  \
              c_phone varchar, c_acctbal numeric(15,2), c_mktsegment varchar,\n  \
              c_comment varchar,\n  \
              PRIMARY KEY (c_custkey))",
        fingerprint: "sum(c_custkey % 97 * c_nationkey), sum(c_acctbal), min(c_acctbal),\n  \
                      max(c_acctbal), min(c_address), sum(length(c_comment))",
        rows: customer,
    },
    Table {
        name: "orders",
        ddl: "CREATE TABLE orders (\n  \
              o_orderkey bigint, o_custkey integer, o_orderstatus varchar,\n  \
              o_totalprice numeric(15,2), o_orderdate date, o_orderpriority varchar,\n  \
              o_clerk varchar, o_shippriority integer, o_comment varchar,\n  \
              PRIMARY KEY (o_orderkey))",
        fingerprint: "sum(o_orderkey % 97 * o_custkey), sum(o_totalprice), min(o_orderdate), \
                      max(o_orderdate), max(o_clerk), sum(length(o_comment))",
        rows: orders,
    },
    Table {
        name: "lineitem",
        ddl: "CREATE TABLE lineitem (\n  \
              l_orderkey bigint, l_partkey integer, l_suppkey integer, l_linenumber integer,\n  \
              l_quantity numeric(15,2), l_extendedprice numeric(15,2),\n  \
              l_discount numeric(15,2), l_tax numeric(15,2),\n  \
              l_returnflag varchar, l_linestatus varchar,\n  \
              l_shipdate date, l_commitdate date, l_receiptdate date,\n  \
              l_shipinstruct varchar, l_shipmode varchar, l_comment varchar,\n  \
              PRIMARY KEY (l_orderkey, l_linenumber))",
        fingerprint: "sum(l_orderkey % 97 * l_linenumber), sum(l_partkey), sum(l_quantity), \
                      sum(l_extendedprice), sum(l_discount), sum(l_tax), min(l_shipdate), \
                      max(l_receiptdate), sum(length(l_comment))",
        rows: lineitem,
    },
];

impl Table {
    /// The statement that loads the table.
    pub fn copy_sql(&self) -> String {
        format!("COPY {} FROM STDIN WITH (FORMAT text, DELIMITER '|')", self.name)
    }

    /// The query whose one row summarizes the table: the row count first, then the aggregates.
    pub fn fingerprint_sql(&self) -> String {
        format!("SELECT count(*), {}\n  FROM {}", self.fingerprint, self.name)
    }

    /// Generates the table and sends it through `COPY`.
    pub async fn load(
        &self,
        client: &Client,
        scale: f64,
        progress: &ProgressBar,
    ) -> Result<Loaded, tokio_postgres::Error> {
        let start = Instant::now();
        let sink = client.copy_in::<str, Bytes>(&self.copy_sql()).await?;
        pin_mut!(sink);
        let mut sent = 0;
        for chunk in (self.rows)(scale) {
            sink.send(chunk.text).await?;
            sent += chunk.rows;
            progress.inc(chunk.rows);
        }
        let rows = sink.as_mut().finish().await?;
        Ok(Loaded { rows, sent, elapsed: start.elapsed() })
    }
}

/// Approximate number of rows of all tables together, for a progress bar.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of a positive number"
)]
pub fn estimated_rows(scale: f64) -> u64 {
    (8_660_000.0 * scale) as u64
}

fn text_pool(scale: f64) -> &'static TextPool {
    static SMALL: OnceLock<TextPool> = OnceLock::new();
    if scale >= 1.0 {
        TextPool::get_or_init_default()
    } else {
        SMALL.get_or_init(|| TextPool::new(SMALL_POOL_BYTES, Distributions::static_default()))
    }
}

fn region(scale: f64) -> Chunks {
    let words = Distributions::static_default();
    chunks(
        RegionGenerator::new_with_distributions_and_text_pool(words, text_pool(scale)).into_iter(),
    )
}

fn nation(scale: f64) -> Chunks {
    let words = Distributions::static_default();
    chunks(
        NationGenerator::new_with_distributions_and_text_pool(words, text_pool(scale)).into_iter(),
    )
}

/// A generator of all rows of a table whose size depends on the scale.
macro_rules! scaled {
    ($generator:ident, $scale:expr) => {
        $generator::new_with_distributions_and_text_pool(
            $scale,
            1,
            1,
            Distributions::static_default(),
            text_pool($scale),
        )
        .into_iter()
    };
}

fn supplier(scale: f64) -> Chunks {
    chunks(scaled!(SupplierGenerator, scale))
}

fn part(scale: f64) -> Chunks {
    chunks(scaled!(PartGenerator, scale))
}

fn customer(scale: f64) -> Chunks {
    chunks(scaled!(CustomerGenerator, scale))
}

fn orders(scale: f64) -> Chunks {
    chunks(scaled!(OrderGenerator, scale))
}

fn lineitem(scale: f64) -> Chunks {
    chunks(scaled!(LineItemGenerator, scale))
}

/// Leaves out duplicate keys: at some small scales the generator gives a part the same supplier twice.
fn partsupp(scale: f64) -> Chunks {
    let rows = PartSuppGenerator::new_with_text_pool(scale, 1, 1, text_pool(scale)).into_iter();
    let mut part = 0;
    let mut suppliers = vec![];
    chunks(rows.filter(move |row: &PartSupp<'_>| {
        if row.ps_partkey != part {
            part = row.ps_partkey;
            suppliers.clear();
        }
        let new = !suppliers.contains(&row.ps_suppkey);
        suppliers.push(row.ps_suppkey);
        new
    }))
}

fn chunks<T: Display>(mut rows: impl Iterator<Item = T> + Send + 'static) -> Chunks {
    Box::new(std::iter::from_fn(move || next_chunk(&mut rows)))
}

fn next_chunk<T: Display>(rows: &mut impl Iterator<Item = T>) -> Option<Chunk> {
    let mut text = String::with_capacity(CHUNK_BYTES + 1024);
    let mut count = 0;
    while text.len() < CHUNK_BYTES
        && let Some(row) = rows.next()
    {
        write!(text, "{row}").expect("a string takes any text");
        // The generator ends each row with a separator, which COPY would read as one more column.
        if text.ends_with('|') {
            text.pop();
        }
        text.push('\n');
        count += 1;
    }
    (count > 0).then(|| Chunk { text: text.into(), rows: count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(name: &str, scale: f64) -> String {
        let table = TABLES.iter().find(|t| t.name == name).unwrap();
        (table.rows)(scale).map(|c| String::from_utf8(c.text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn every_row_has_a_field_for_each_column() {
        for table in &TABLES {
            let columns = table.ddl.matches("varchar").count()
                + table.ddl.matches(" integer").count()
                + table.ddl.matches(" bigint").count()
                + table.ddl.matches(" date").count()
                + table.ddl.matches(" numeric").count();
            let text = text_of(table.name, 0.001);
            let line = text.lines().next().unwrap();
            assert_eq!(line.split('|').count(), columns, "{}: {line}", table.name);
        }
    }

    #[test]
    fn no_part_has_one_supplier_twice() {
        let text = text_of("partsupp", 0.001);
        let keys: Vec<Vec<&str>> =
            text.lines().map(|line| line.split('|').take(2).collect()).collect();
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn chunks_hold_all_rows() {
        let table = &TABLES[5];
        let rows: u64 = (table.rows)(0.01).map(|chunk| chunk.rows).sum();
        assert_eq!(rows, 1500);
        assert_eq!(text_of("customer", 0.01).lines().count(), 1500);
    }
}
