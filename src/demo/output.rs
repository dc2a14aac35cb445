//! What the demo prints: numbered steps, the SQL or command of each, its result, its checks.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::cli;

const BOLD: &str = "\x1b[1m";
const CYAN: &str = "\x1b[36m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Standard output, and a count of the checks shown on it.
#[derive(Debug)]
pub struct Screen {
    coloured: bool,
    steps: u32,
    checks: u32,
    failed: Vec<String>,
}

impl Screen {
    pub fn new() -> Self {
        let coloured = cli::coloured(&io::stdout());
        Self { coloured, steps: 0, checks: 0, failed: vec![] }
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &str) -> io::Result<()> {
        self.steps += 1;
        let title = format!("{}. {title}", self.steps);
        print(&format!("\n{}", self.paint(BOLD, &title)))
    }

    /// Prints the statement about to run, as psql would show it.
    pub fn sql(&self, statement: &str) -> io::Result<()> {
        self.prompted("dev=> ", &format!("{statement};"))
    }

    /// Prints the command about to run.
    pub fn command(&self, line: &str) -> io::Result<()> {
        self.prompted("$ ", line)
    }

    /// Prints a result, indented.
    pub fn result(&self, text: &impl Display) -> io::Result<()> {
        print(&indented(&text.to_string()))
    }

    /// Prints a check and whether it passed.
    pub fn check(&mut self, good: bool, claim: &str) -> io::Result<()> {
        self.checks += 1;
        if !good {
            self.failed.push(claim.to_owned());
        }
        let mark = if good { self.paint(GREEN, "✓") } else { self.paint(RED, "✗") };
        print(&format!("   {mark} {claim}"))
    }

    /// Whether every check passed.
    pub fn all_good(&self) -> bool {
        self.failed.is_empty()
    }

    /// Summary of the checks, for the last line.
    pub fn tally(&self) -> String {
        match self.failed.as_slice() {
            [] => format!("all {} checks hold", self.checks),
            failed => {
                let claims = failed.join("; ");
                format!("{} of {} checks do not hold: {claims}", failed.len(), self.checks)
            }
        }
    }

    /// Prints the last line.
    pub fn verdict(&self, passed: bool, text: &str) -> io::Result<()> {
        let (colour, word) = if passed { (GREEN, "passed") } else { (RED, "FAILED") };
        print(&format!("\n{}: {text}", self.paint(colour, &format!("demo {word}"))))
    }

    fn prompted(&self, prompt: &str, text: &str) -> io::Result<()> {
        print(&indented(&self.paint(CYAN, &format!("{prompt}{text}"))))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

fn indented(text: &str) -> String {
    let lines = text.trim_end().lines().map(|line| format!("   {line}"));
    lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_the_demo() {
        let mut screen = Screen { coloured: false, steps: 0, checks: 0, failed: vec![] };
        screen.check(true, "rows are there").unwrap();
        assert!(screen.all_good());
        screen.check(false, "rows are right").unwrap();
        assert!(!screen.all_good());
        assert_eq!(screen.tally(), "1 of 2 checks do not hold: rows are right");
    }
}
