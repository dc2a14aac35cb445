//! Tests: many programs, the same one twice, and what some of them must reach.

use std::collections::BTreeMap;
use std::sync::Once;

use super::chaos::Without;
use super::contention::OVERTAKEN;
use super::program::{Run, run};
use tidemark_ledger::ambient::simulated;

/// Number of programs that run by default.
const PROGRAMS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What some program must reach: the bugs that were found there are found nowhere else.
const MUST_HAPPEN: [&str; 3] =
    [OVERTAKEN, "done: compactions by workers", "done: snapshots compared"];

/// Kinds of faults that are left out because of known bugs that are not fixed yet.
const NOT_BORNE: &str = "";

/// What a run leaves out, unless the environment says otherwise.
fn without() -> Without {
    let named = |variable: &str| Without::of(&std::env::var(variable).unwrap_or_default());
    let (with, more) = (named("SIM_WITH"), named("SIM_WITHOUT"));
    let mut without = Without::of(NOT_BORNE);
    without.0.retain(|name| with.has(name));
    without.0.extend(more.0);
    without
}

/// Silences panics in a simulation, where they are errors of the statement.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !simulated::is_on() {
                told(panic);
            }
        }));
    });
}

fn simulate(name: &str, seed: u64) -> Run {
    quiet();
    run(name, seed, without())
}

#[test]
#[expect(clippy::print_stdout, reason = "what was done is what the run is for")]
fn whatever_goes_wrong_and_whenever_no_row_is_wrong() {
    let first = number("SIM_SEED").unwrap_or(0);
    let seeds = first..first + number("SIM_PROGRAMS").unwrap_or(PROGRAMS);
    println!("seeds {seeds:?}");
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failed = vec![];
    for seed in seeds {
        let run = simulate("sim", seed);
        for (what, count) in run.counts {
            *counts.entry(what).or_default() += count;
        }
        if (seed - first) % 100 == 99 {
            println!("{} programs, {} failed", seed - first + 1, failed.len());
        }
        if let Err(what) = run.outcome {
            println!("seed {seed}: {}", what.lines().last().unwrap_or_default());
            failed.push((seed, what));
        }
    }
    for (what, count) in &counts {
        println!("{count:>12} {what}");
    }
    if let Some((seed, what)) = failed.first() {
        panic!("{} failed\n{what}\n  SIM_SEED={seed} SIM_PROGRAMS=1 runs it again", failed.len());
    }
    let is_whole = without() == Without::of(NOT_BORNE) && number("SIM_STEPS").is_none();
    if is_whole && number("SIM_PROGRAMS").unwrap_or(PROGRAMS) >= PROGRAMS {
        let missing: Vec<_> =
            MUST_HAPPEN.iter().filter(|what| !counts.contains_key(*what)).collect();
        assert!(missing.is_empty(), "never: {missing:?}");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..12 {
        let (first, second) = (simulate("twice", seed), simulate("twice", seed));
        assert_eq!(first.hash, second.hash, "of seed {seed}");
        assert_eq!(first.counts, second.counts, "of seed {seed}");
        assert_ne!(first.hash, simulate("twice", seed + 100).hash, "of other seeds");
    }
}
