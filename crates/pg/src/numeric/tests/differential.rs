//! Every operation on random operands, compared with a live PostgreSQL 15.
//!
//! `TIDEMARK_NUMERIC_POSTGRES` is the connection string of the server; without it nothing is compared.
//! `TIDEMARK_NUMERIC_ROUNDS` sets how often 1,000 operands of each operation are tried (1 by default), and
//! `TIDEMARK_NUMERIC_SEED` the seed of the first round.

use std::fmt::Write as _;
use std::str::FromStr as _;

use tokio_postgres::{Client, NoTls};

use super::operands::Random;
use crate::error::SqlError;
use crate::numeric::{Moments, Numeric, Population, Result, Typmod, factorial, width_bucket};

const CASES: usize = 1_000;

/// The operands of one call.
struct Case {
    a: String,
    b: String,
    n: i32,
}

impl Case {
    fn a(&self) -> Result<Numeric> {
        self.a.parse()
    }

    fn b(&self) -> Result<Numeric> {
        self.b.parse()
    }
}

/// An operation: in PostgreSQL, operands for it, and here.
struct Operation {
    sql: &'static str,
    operands: fn(&mut Random) -> Case,
    run: fn(&Case) -> Result<String>,
}

fn any(random: &mut Random) -> Case {
    let n = match random.below(8) {
        0 => i32::try_from(random.below(8_000)).unwrap() - 4_000,
        _ => i32::try_from(random.below(50)).unwrap() - 15,
    };
    Case { a: random.any(), b: random.any(), n }
}

fn finite(random: &mut Random) -> Case {
    Case { a: random.finite(), b: random.finite(), ..any(random) }
}

fn float(random: &mut Random) -> Case {
    Case { a: random.float(), ..any(random) }
}

fn exponent(random: &mut Random) -> Case {
    Case { a: random.exponent(), ..any(random) }
}

fn positive(random: &mut Random) -> Case {
    let case = any(random);
    if random.one_in(20) {
        return case;
    }
    let strip = |text: &str| text.trim_start_matches('-').to_owned();
    Case { a: strip(&case.a), b: strip(&case.b), n: case.n }
}

fn power(random: &mut Random) -> Case {
    let base = match random.below(6) {
        0 => random.any(),
        1 => random.below(100).to_string(),
        2 => format!("{}.{}", random.below(1_000), random.below(1_000)),
        _ => random.finite(),
    };
    let a = if random.one_in(10) { base } else { base.trim_start_matches('-').to_owned() };
    let b = if random.one_in(3) {
        format!("{}{}", if random.one_in(2) { "-" } else { "" }, random.below(200))
    } else {
        random.exponent()
    };
    Case { a, b, n: 0 }
}

fn written(random: &mut Random) -> Case {
    Case { a: random.written(), ..any(random) }
}

fn whole(random: &mut Random) -> Case {
    let bound = if random.one_in(200) { 33_000 } else { 400 };
    Case { n: i32::try_from(random.below(bound)).unwrap() - 5, ..any(random) }
}

fn bounds(random: &mut Random) -> Case {
    let near = |random: &mut Random| match random.below(4) {
        0 => random.any(),
        _ => format!("{}.{}", random.below(12), random.below(1_000)),
    };
    let count =
        if random.one_in(20) { i32::MAX } else { i32::try_from(random.below(40)).unwrap() - 1 };
    Case { a: near(random), b: near(random), n: count }
}

/// Up to seven values, separated by commas.
fn list(random: &mut Random) -> Case {
    let is_finite = random.one_in(2);
    let one = |random: &mut Random| match random.below(3) {
        0 if !is_finite => random.any(),
        1 => random.finite(),
        _ => format!("{}.{}", random.below(100), random.below(100)),
    };
    let values: Vec<String> = (0..random.below(8)).map(|_| one(random)).collect();
    Case { a: values.join(","), ..any(random) }
}

/// The state of an aggregate over a list; values in the second half are added, taken out and merged again.
fn moments(case: &Case) -> Result<Moments> {
    let values = case.a.split(',').filter(|text| !text.is_empty()).map(str::parse);
    let values = values.collect::<Result<Vec<Numeric>>>()?;
    let (mut first, mut second) = (Moments::of_variance(), Moments::of_variance());
    let (left, right) = values.split_at(values.len() / 2);
    values.iter().for_each(|value| first.add(value));
    right.iter().for_each(|value| first.remove(value));
    right.iter().for_each(|value| second.add(value));
    assert_eq!(left.is_empty(), first.sum()?.is_none());
    first.merge(&second);
    Ok(first)
}

fn text_of(value: Option<Numeric>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn typed(case: &Case, precision: u16, scale: i16) -> Result<String> {
    Ok(Typmod { precision, scale }.apply(&case.a()?)?.to_string())
}

fn hex(value: &Numeric) -> String {
    let mut bytes = vec![];
    value.put_wire(&mut bytes);
    assert_eq!(Numeric::from_wire(&bytes).unwrap().to_string(), value.to_string());
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn shown(scale: Option<u32>) -> String {
    scale.map_or_else(|| "NULL".to_owned(), |scale| scale.to_string())
}

/// A float as PostgreSQL shows it, less its notation: read back, so that bits are compared.
fn bits64(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{:016x}", value.to_bits()) }
}

fn bits32(value: f32) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{:08x}", value.to_bits()) }
}

macro_rules! operations {
    ($($sql:literal, $operands:ident, $run:expr;)*) => {
        &[$(Operation { sql: $sql, operands: $operands, run: $run },)*]
    };
}

const OPERATIONS: &[Operation] = operations! {
    "a::numeric", any, |c| Ok(c.a()?.to_string());
    "a::numeric", written, |c| Ok(c.a()?.to_string());
    "a::numeric(5,2)", any, |c| typed(c, 5, 2);
    "a::numeric(38,10)", written, |c| typed(c, 38, 10);
    "a::numeric(3,3)", float, |c| typed(c, 3, 3);
    "a::numeric(2,5)", float, |c| typed(c, 2, 5);
    "a::numeric(3,-4)", finite, |c| typed(c, 3, -4);
    "a::numeric + b::numeric", any, |c| Ok(c.a()?.add(&c.b()?)?.to_string());
    "a::numeric - b::numeric", any, |c| Ok(c.a()?.sub(&c.b()?)?.to_string());
    "a::numeric * b::numeric", any, |c| Ok(c.a()?.mul(&c.b()?)?.to_string());
    "a::numeric / b::numeric", any, |c| Ok(c.a()?.div(&c.b()?)?.to_string());
    "a::numeric / b::numeric", finite, |c| Ok(c.a()?.div(&c.b()?)?.to_string());
    "a::numeric / (n + 20)", finite, |c| Ok(c.a()?.div(&Numeric::from(c.n + 20))?.to_string());
    "a::numeric % b::numeric", any, |c| Ok(c.a()?.rem(&c.b()?)?.to_string());
    "div(a::numeric, b::numeric)", any, |c| Ok(c.a()?.div_trunc(&c.b()?)?.to_string());
    "- a::numeric", any, |c| Ok(c.a()?.neg().to_string());
    "abs(a::numeric)", any, |c| Ok(c.a()?.abs().to_string());
    "sign(a::numeric)", any, |c| Ok(c.a()?.sign().to_string());
    "round(a::numeric, n)", any, |c| Ok(c.a()?.round(c.n)?.to_string());
    "round(a::numeric, n)", finite, |c| Ok(c.a()?.round(c.n)?.to_string());
    "trunc(a::numeric, n)", any, |c| Ok(c.a()?.trunc(c.n)?.to_string());
    "ceil(a::numeric)", any, |c| Ok(c.a()?.ceil()?.to_string());
    "floor(a::numeric)", any, |c| Ok(c.a()?.floor()?.to_string());
    "scale(a::numeric)", any, |c| Ok(shown(c.a()?.scale()));
    "min_scale(a::numeric)", any, |c| Ok(shown(c.a()?.min_scale()));
    "trim_scale(a::numeric)", any, |c| Ok(c.a()?.trim_scale().to_string());
    "sqrt(a::numeric)", positive, |c| Ok(c.a()?.sqrt()?.to_string());
    "exp(a::numeric)", exponent, |c| Ok(c.a()?.exp()?.to_string());
    "ln(a::numeric)", positive, |c| Ok(c.a()?.ln()?.to_string());
    "log(a::numeric)", positive, |c| Ok(c.a()?.log10()?.to_string());
    "log(a::numeric, b::numeric)", positive, |c| Ok(c.a()?.log(&c.b()?)?.to_string());
    "power(a::numeric, b::numeric)", power, |c| Ok(c.a()?.power(&c.b()?)?.to_string());
    "power(a::numeric, b::numeric)", finite, |c| Ok(c.a()?.power(&c.b()?)?.to_string());
    "power(a::numeric, n)", positive, |c| Ok(c.a()?.power(&Numeric::from(c.n))?.to_string());
    "gcd(a::numeric, b::numeric)", any, |c| Ok(c.a()?.gcd(&c.b()?)?.to_string());
    "lcm(a::numeric, b::numeric)", any, |c| Ok(c.a()?.lcm(&c.b()?)?.to_string());
    "factorial(n)", whole, |c| Ok(factorial(c.n.into())?.to_string());
    "width_bucket(a::numeric, b::numeric, 10.5, n)", bounds,
        |c| Ok(width_bucket(&c.a()?, &c.b()?, &"10.5".parse()?, c.n)?.to_string());
    "width_bucket(a::numeric, 10, b::numeric, n)", bounds,
        |c| Ok(width_bucket(&c.a()?, &"10".parse()?, &c.b()?, c.n)?.to_string());
    "sign(numeric_cmp(a::numeric, b::numeric))::int", any,
        |c| Ok((c.a()?.cmp(&c.b()?) as i32).to_string());
    "sign(numeric_cmp(a::numeric, (a::numeric + 1.00) - 1))::int", finite, |c| {
        let other = c.a()?.add(&"1.00".parse()?)?.sub(&Numeric::one())?;
        Ok((c.a()?.cmp(&other) as i32).to_string())
    };
    "a::numeric::int2", finite, |c| Ok(c.a()?.to_i16()?.to_string());
    "a::numeric::int4", any, |c| Ok(c.a()?.to_i32()?.to_string());
    "a::numeric::int8", any, |c| Ok(c.a()?.to_i64()?.to_string());
    "replace(encode(float8send(a::numeric::float8), 'hex'), '7ff8000000000000', 'NaN')", any,
        |c| Ok(bits64(c.a()?.to_f64()?));
    "replace(encode(float4send(a::numeric::float4), 'hex'), '7fc00000', 'NaN')", float,
        |c| Ok(bits32(c.a()?.to_f32()?));
    "a::float8::numeric", float, |c| Ok(Numeric::from(f64::from_str(&c.a).unwrap()).to_string());
    "a::float8::float4::numeric", float, |c| {
        let wide = f64::from_str(&c.a).unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "the test rounds to single precision")]
        let float = wide as f32;
        let is_beyond = (float.is_infinite() && wide.is_finite()) || (float == 0.0 && wide != 0.0);
        Ok(if is_beyond { BEYOND.to_owned() } else { Numeric::from(float).to_string() })
    };
    "(SELECT sum(x::numeric) FROM unnest(string_to_array(a, ',')) x)", list,
        |c| Ok(text_of(moments(c)?.sum()?));
    "(SELECT avg(x::numeric) FROM unnest(string_to_array(a, ',')) x)", list,
        |c| Ok(text_of(moments(c)?.average()?));
    "(SELECT variance(x::numeric) FROM unnest(string_to_array(a, ',')) x)", list,
        |c| Ok(text_of(moments(c)?.variance(Population::Sample)?));
    "(SELECT var_pop(x::numeric) FROM unnest(string_to_array(a, ',')) x)", list,
        |c| Ok(text_of(moments(c)?.variance(Population::Whole)?));
    "(SELECT stddev(x::numeric) FROM unnest(string_to_array(a, ',')) x)", list,
        |c| Ok(text_of(moments(c)?.deviation(Population::Sample)?));
    "(SELECT stddev_pop(x::numeric) FROM unnest(string_to_array(a, ',')) x)", list,
        |c| Ok(text_of(moments(c)?.deviation(Population::Whole)?));
    "encode(numeric_send(a::numeric), 'hex')", any, |c| Ok(hex(&c.a()?));
};

/// The error for a double that is no real: not ours to raise.
const BEYOND: &str = "beyond";

fn error_text(error: &SqlError) -> String {
    let detail = error.detail.as_deref().unwrap_or("");
    format!("{} {} {detail}", error.sqlstate.code(), error.message)
}

async fn connect(config: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SET extra_float_digits = 3").await.unwrap();
    client
}

/// The answers of PostgreSQL; errors as text.
async fn answers(client: &Client, sql: &str, cases: &[Case]) -> Vec<String> {
    let define = format!(
        "CREATE OR REPLACE FUNCTION pg_temp.attempt(a text, b text, n int) RETURNS text \
         LANGUAGE plpgsql AS $$ DECLARE detail text; BEGIN RETURN coalesce(({sql})::text, 'NULL'); \
         EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL; \
         RETURN SQLSTATE || ' ' || SQLERRM || ' ' || detail; END $$"
    );
    client.batch_execute(&define).await.unwrap();
    let a: Vec<&str> = cases.iter().map(|case| case.a.as_str()).collect();
    let b: Vec<&str> = cases.iter().map(|case| case.b.as_str()).collect();
    let n: Vec<i32> = cases.iter().map(|case| case.n).collect();
    let query = "SELECT pg_temp.attempt(a, b, n) FROM \
                 unnest($1::text[], $2::text[], $3::int[]) WITH ORDINALITY t(a, b, n, i) ORDER BY i";
    let rows = client.query(query, &[&a, &b, &n]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn short(text: &str) -> &str {
    text.get(..300).unwrap_or(text)
}

/// Runs 1,000 calls of an operation; returns how many answers differ.
#[expect(clippy::print_stderr, reason = "a difference is shown where it is found")]
async fn compare(client: &Client, operation: &Operation, random: &mut Random) -> usize {
    let cases: Vec<Case> = (0..CASES).map(|_| (operation.operands)(random)).collect();
    let theirs = answers(client, operation.sql, &cases).await;
    let mut differing = 0;
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = (operation.run)(case).unwrap_or_else(|error| error_text(&error));
        let is_beyond = ours == BEYOND && theirs.starts_with("22003");
        if ours == *theirs || is_beyond {
            continue;
        }
        differing += 1;
        if differing <= 5 {
            let (a, b) = (short(&case.a), short(&case.b));
            let sql = operation.sql;
            eprintln!(
                "{sql}: a {a}, b {b}, n {}\n  theirs {}\n  ours   {}",
                case.n,
                short(theirs),
                short(&ours)
            );
        }
    }
    differing
}

#[test]
#[expect(clippy::print_stderr, reason = "the counts are the result of a run by command")]
fn every_operation_answers_what_postgresql_answers() {
    let Ok(config) = std::env::var("TIDEMARK_NUMERIC_POSTGRES") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut count, mut differing) = (0, 0);
    runtime.block_on(async {
        let client = connect(&config).await;
        let first = setting("TIDEMARK_NUMERIC_SEED", 1);
        for seed in first..first + setting("TIDEMARK_NUMERIC_ROUNDS", 1) {
            let mut random = Random(seed);
            for operation in OPERATIONS {
                differing += compare(&client, operation, &mut random).await;
                count += CASES;
            }
        }
    });
    eprintln!("{count} operations, {differing} answers differ");
    assert_eq!(differing, 0);
}
