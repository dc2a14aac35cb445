//! What was found: differences by cause, each with its smallest case.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::compare::{DIFFERENCES, Difference, Verdict};
use crate::wire::Answer;

const ROWS_SHOWN: usize = 12;
/// So often a cause is shrunk before statements that have everything it has are left out.
const REPEATS_MAX: usize = 2;

/// A difference with the smallest case that shows it.
#[derive(Clone, Debug)]
pub struct Finding {
    pub difference: Difference,
    /// What groups it with others: the shape of the smallest case, or the error.
    pub cause: String,
    /// Statements for psql.
    pub script: Vec<String>,
    pub postgres: Answer,
    pub tidemark: Answer,
    /// How to run it again.
    pub origin: String,
    /// Words of the documentation, if the difference is a documented one.
    pub known: Option<&'static str>,
}

/// What a statement consists of, as far as causes are told apart by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub signatures: Vec<usize>,
    pub words: Vec<&'static str>,
}

#[derive(Default)]
pub struct Report {
    pub equal: usize,
    pub both_refuse: usize,
    pub no_answer: usize,
    pub left_out: usize,
    pub differ: BTreeMap<Difference, usize>,
    findings: BTreeMap<(Difference, String), (Finding, usize)>,
    causes: Vec<(Parts, usize)>,
    refusals: HashSet<String>,
}

impl Parts {
    fn has_all_of(&self, other: &Self) -> bool {
        other.signatures.iter().all(|known| self.signatures.contains(known))
            && other.words.iter().all(|known| self.words.contains(known))
    }
}

impl Report {
    pub fn statements(&self) -> usize {
        self.equal + self.both_refuse + self.no_answer + self.differ.values().sum::<usize>()
    }

    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Equal => self.equal += 1,
            Verdict::BothRefuse => self.both_refuse += 1,
            Verdict::NoAnswer => self.no_answer += 1,
            Verdict::Differ(difference) => *self.differ.entry(difference).or_default() += 1,
        }
    }

    /// Whether statements with these parts have shown one cause often enough.
    pub fn is_worn_out(&mut self, parts: &Parts) -> bool {
        let is_worn_out = self
            .causes
            .iter()
            .any(|(cause, count)| *count >= REPEATS_MAX && parts.has_all_of(cause));
        self.left_out += usize::from(is_worn_out);
        is_worn_out
    }

    /// Whether an error is new; the first of its kind is shrunk.
    pub fn is_new_refusal(&mut self, refusal: String) -> bool {
        self.refusals.insert(refusal)
    }

    /// Whether there is a finding with this cause already; counts it.
    pub fn is_repeated(&mut self, difference: Difference, cause: &str) -> bool {
        let found = self.findings.get_mut(&(difference, cause.to_owned()));
        found.map(|(_, count)| *count += 1).is_some()
    }

    pub fn note_parts(&mut self, parts: Parts) {
        if parts.signatures.is_empty() && parts.words.len() < 2 {
            return;
        }
        match self.causes.iter_mut().find(|(known, _)| *known == parts) {
            Some((_, count)) => *count += 1,
            None => self.causes.push((parts, 1)),
        }
    }

    pub fn add(&mut self, finding: Finding) {
        let key = (finding.difference, finding.cause.clone());
        self.findings.entry(key).or_insert((finding, 0)).1 += 1;
    }

    /// Wrong answers that are not documented.
    pub fn unknown(&self) -> usize {
        let findings = self.findings.values().map(|(finding, _)| finding);
        findings.filter(|finding| finding.known.is_none() && finding.difference.is_wrong()).count()
    }

    pub fn summary(&self) -> String {
        let mut parts = vec![
            format!("{} statements", self.statements()),
            format!("{} equal", self.equal),
            format!("{} both refuse", self.both_refuse),
        ];
        for difference in DIFFERENCES {
            if let Some(count) = self.differ.get(difference) {
                parts.push(format!("{count} {}", difference.name()));
            }
        }
        parts.push(format!("{} without an answer", self.no_answer));
        parts.push(format!("{} left out", self.left_out));
        format!(
            "{}; {} causes, {} not documented",
            parts.join(", "),
            self.findings.len(),
            self.unknown()
        )
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for difference in DIFFERENCES {
            let of_kind = self.findings.iter().filter(|((kind, _), _)| kind == difference);
            let mut of_kind: Vec<_> = of_kind.map(|(_, found)| found).collect();
            of_kind.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            if !of_kind.is_empty() {
                text += &format!("\n## {} ({})\n", difference.name(), of_kind.len());
            }
            for (finding, count) in of_kind {
                text += &shown(finding, *count);
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let finding = |(finding, count): &(Finding, usize)| {
            json!({
                "difference": finding.difference.name(), "cause": finding.cause, "count": count,
                "script": finding.script, "postgres": answer(&finding.postgres),
                "tidemark": answer(&finding.tidemark), "origin": finding.origin, "known": finding.known,
            })
        };
        let differ: BTreeMap<&str, usize> =
            self.differ.iter().map(|(difference, count)| (difference.name(), *count)).collect();
        json!({
            "statements": self.statements(), "equal": self.equal, "both_refuse": self.both_refuse,
            "no_answer": self.no_answer, "left_out": self.left_out, "differ": differ,
            "unknown": self.unknown(), "findings": self.findings.values().map(finding).collect::<Vec<_>>(),
        })
    }
}

fn shown(finding: &Finding, count: usize) -> String {
    let known = finding.known.map_or(String::new(), |known| format!("\n-- documented: {known}"));
    format!(
        "\n-- {count} ×, {}: {}{known}\n{};\n--   postgres: {}\n--   tidemark: {}\n",
        finding.origin,
        finding.cause,
        finding.script.join(";\n"),
        answer(&finding.postgres),
        answer(&finding.tidemark),
    )
}

/// An answer on one line.
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Error { code, message } => format!("{code}: {message}"),
        Answer::Lost { reason } => format!("lost: {reason}"),
        Answer::Done { tag } => tag.clone(),
        Answer::Rows { columns, rows } => {
            let head: Vec<String> = columns
                .iter()
                .map(|column| format!("{}:{}", column.name, column.type_oid))
                .collect();
            let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "NULL".to_owned());
            let row = |row: &Vec<Option<String>>| {
                row.iter().map(cell).collect::<Vec<_>>().join("|").replace('\n', "\\n")
            };
            let more = if rows.len() > ROWS_SHOWN { " …" } else { "" };
            let rows: Vec<String> = rows.iter().map(row).collect();
            let first = rows[..rows.len().min(ROWS_SHOWN)].join("; ");
            format!("[{}] ({}) {first}{more}", head.join(", "), rows.len())
        }
    }
}
