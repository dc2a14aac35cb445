//! The story: load, back up, damage, read the past, lose the metadata, get everything back.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Screen;
use super::picture::Picture;
use super::process::{Outcome, ServerProcess, risectl};
use super::session::{Session, sql_error};
use super::stores::Stores;
use super::{DemoError, tpch};
use crate::ctl::output::{Table, count, shell_word};
use tidemark_ledger::storage_url;

const CURRENT_EPOCH: &str = "SELECT max_committed_epoch FROM rw_catalog.rw_hummock_current_version";
const SNAPSHOTS: &str = "SELECT meta_snapshot_id, safe_epoch, max_committed_epoch, \
                         max_committed_epoch_ts, remarks\n  \
                         FROM rw_catalog.rw_meta_snapshot ORDER BY meta_snapshot_id";
/// Commands longer than this are shown with one flag per line.
const COMMAND_WIDTH: usize = 88;

/// The database as it was at one epoch.
struct Moment {
    epoch: String,
    picture: Picture,
}

pub(super) struct Story<'a> {
    screen: &'a mut Screen,
    /// Path of this program.
    program: PathBuf,
    scale: f64,
    stores: Stores,
    /// Folder for the child processes' own files.
    scratch: &'a Path,
}

impl<'a> Story<'a> {
    pub fn new(
        screen: &'a mut Screen,
        scale: f64,
        stores: Stores,
        scratch: &'a Path,
    ) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(|source| DemoError::File {
            action: "find",
            path: PathBuf::from("this program"),
            source,
        })?;
        Ok(Self { screen, program, scale, stores, scratch })
    }

    /// Runs the whole story. Returns the restored server, which is still running.
    pub async fn tell(mut self) -> Result<ServerProcess, DemoError> {
        let server = self.start("Start a server on a fresh store").await?;
        let session = Session::open(&server).await?;
        self.load(&session).await?;
        self.screen.step("The parameters say where data and backups are")?;
        session.show(self.screen, "SHOW PARAMETERS").await?;
        let truth = self.look(&session).await?;
        let before = self.back_up(&session, truth).await?;
        let between = self.damage(&session, &before).await?;
        self.back_up_the_damage(&server, &session).await?;
        self.read_the_pasts(&server, &before, &between).await?;
        self.refuse_a_wrong_epoch(&session, &before).await?;
        drop(session);
        self.lose_the_meta_store(server).await?;
        self.rehearse_the_restore().await?;
        self.restore().await?;
        let server = self.start("Start the server on what was restored").await?;
        self.compare_again(&server, &before, &between).await?;
        self.go_on(&server).await?;
        Ok(server)
    }

    async fn start(&mut self, title: &str) -> Result<ServerProcess, DemoError> {
        self.screen.step(title)?;
        let flags = self.stores.server_flags();
        self.screen.command(&command_line("tidemark", &flags))?;
        let environment = self.stores.environment();
        let server = ServerProcess::start(&self.program, &flags, environment, self.scratch).await?;
        let (sql, meta) = (server.sql_addr, server.meta_addr);
        self.screen.result(&format!("SQL on {sql}, meta on {meta} (free ports, for the demo)"))?;
        Ok(server)
    }

    async fn load(&mut self, session: &Session) -> Result<(), DemoError> {
        self.screen.step(&format!("Load TPC-H at scale {} through COPY", self.scale))?;
        self.screen.sql(tpch::TABLES[5].ddl)?;
        self.screen.sql(&tpch::TABLES[5].copy_sql())?;
        self.screen.result(&"… and so on for all eight tables")?;
        let bar = progress_bar(tpch::estimated_rows(self.scale));
        let mut shown = Table::new(["table", "rows", "seconds", "rows/s"]);
        let (mut sent, mut found) = (0, 0);
        for table in &tpch::TABLES {
            bar.set_message(table.name);
            session.client.simple_query(table.ddl).await.map_err(sql_error(table.ddl))?;
            let loaded = table.load(&session.client, self.scale, &bar).await;
            let loaded = loaded.map_err(sql_error(&table.copy_sql()))?;
            let query = format!("SELECT count(*) FROM {}", table.name);
            found += session.value(&query).await?.parse::<u64>().unwrap_or_default();
            sent += loaded.sent;
            shown.push(vec![
                table.name.to_owned(),
                loaded.rows.to_string(),
                format!("{:.2}", loaded.elapsed.as_secs_f64()),
                format!("{:.0}", loaded.rows_per_second()),
            ]);
        }
        bar.finish_and_clear();
        self.screen.result(&shown)?;
        let claim = format!("the tables hold the {} rows that were sent", count(sent));
        self.screen.check(sent == found, &claim)?;
        Ok(())
    }

    async fn look(&mut self, session: &Session) -> Result<Picture, DemoError> {
        self.screen.step("Take a fingerprint of every table: this is the truth")?;
        self.screen.sql(&tpch::TABLES[5].fingerprint_sql())?;
        self.screen.result(&"… and so on; a fingerprint is a hash of such a row")?;
        let truth = session.picture().await?;
        self.screen.result(&truth.table(None))?;
        Ok(truth)
    }

    async fn back_up(&mut self, session: &Session, truth: Picture) -> Result<Moment, DemoError> {
        self.screen.step("Back up the metadata: the snapshot pins the data files it names")?;
        let id = session.show_value(self.screen, "BACKUP").await?;
        self.screen.check(id == "1", "the first snapshot has the id 1")?;
        let query = format!(
            "SELECT max_committed_epoch FROM rw_catalog.rw_meta_snapshot WHERE meta_snapshot_id = {id}"
        );
        let epoch = session.show_value(self.screen, &query).await?;
        Ok(Moment { epoch, picture: truth })
    }

    /// Damages the database step by step; returns the moment between the first step and the second.
    async fn damage(&mut self, session: &Session, before: &Moment) -> Result<Moment, DemoError> {
        self.screen.step("A bad UPDATE: the WHERE was forgotten")?;
        session.show(self.screen, "UPDATE customer SET c_acctbal = 0").await?;
        session.show(self.screen, "SELECT count(*), sum(c_acctbal) FROM customer").await?;
        let between = Moment {
            epoch: session.show_value(self.screen, CURRENT_EPOCH).await?,
            picture: session.picture().await?,
        };
        let damaged = between.picture.differences(&before.picture);
        self.screen.check(damaged == ["customer"], "customer is damaged, and nothing else")?;

        self.screen.step("A bad DELETE, a bad RENAME, a bad DROP")?;
        let delete = "DELETE FROM lineitem WHERE l_orderkey IN\n  \
                      (SELECT o_orderkey FROM orders WHERE o_orderdate < date '1998-01-01')";
        session.show(self.screen, delete).await?;
        session.show(self.screen, "ALTER TABLE nation RENAME COLUMN n_name TO label").await?;
        session.show(self.screen, "DROP TABLE supplier").await?;
        let after = session.picture().await?;
        self.screen.result(&after.table(Some(("to the truth", &before.picture))))?;
        let damaged = after.differences(&before.picture);
        let expected = ["nation", "supplier", "customer", "lineitem"];
        self.screen.check(damaged == expected, "four tables are damaged now")?;
        Ok(between)
    }

    async fn back_up_the_damage(
        &mut self,
        server: &ServerProcess,
        session: &Session,
    ) -> Result<(), DemoError> {
        self.screen.step("Back up again, this time as an operator does")?;
        let args = words("meta backup-meta --remarks").chain(["after the damage".to_owned()]);
        let outcome = self.risectl(Some(server), args).await?;
        let good = outcome.success && outcome.text.contains("backup job succeeded: job 2");
        self.screen.check(good, "the second snapshot has the id 2")?;
        let listed = session.show(self.screen, SNAPSHOTS).await?;
        self.screen.check(listed.row_count() == 2, "two snapshots are listed")?;
        Ok(())
    }

    async fn read_the_pasts(
        &mut self,
        server: &ServerProcess,
        before: &Moment,
        between: &Moment,
    ) -> Result<(), DemoError> {
        self.screen.step("Read the past: as the first snapshot was taken")?;
        let past = Session::open(server).await?;
        self.read_past(&past, before).await?;
        let insert = "INSERT INTO region VALUES (5, 'ATLANTIS', 'under water')";
        let refused = past.refused(self.screen, insert).await?;
        let read_only = refused.is_some_and(|error| error.code().code() == "25006");
        self.screen.check(read_only, "the past cannot be written")?;

        self.screen.step("Read another past: after the bad UPDATE, before the bad DELETE")?;
        self.read_past(&past, between).await?;
        let both = "one snapshot answers for every epoch in its range, schema and all";
        let distinct = between.picture != before.picture;
        self.screen.check(distinct, both)?;
        Ok(())
    }

    /// Reads at a past epoch and compares with the picture taken when that epoch was current.
    async fn read_past(&mut self, session: &Session, moment: &Moment) -> Result<(), DemoError> {
        session.show(self.screen, &format!("SET QUERY_EPOCH = {}", moment.epoch)).await?;
        let seen = session.picture().await?;
        self.screen.result(&seen.table(Some(("as it was", &moment.picture))))?;
        let claim = format!("all eight tables are as they were at {}", moment.epoch);
        self.screen.check(seen == moment.picture, &claim)?;
        Ok(())
    }

    async fn refuse_a_wrong_epoch(
        &mut self,
        session: &Session,
        before: &Moment,
    ) -> Result<(), DemoError> {
        self.screen.step("An epoch that no snapshot covers is refused, with a way out")?;
        let error = session.refused(self.screen, "SET QUERY_EPOCH = 1").await?;
        let named = error
            .as_ref()
            .is_some_and(|e| e.message().contains("backup include epoch 1 not found"));
        self.screen.check(named, "the error names the epoch")?;
        let hinted = error.is_some_and(|error| error.hint().is_some());
        self.screen.check(hinted, "a HINT says what can be read")?;
        let now = session.picture().await?;
        let damaged = now.differences(&before.picture).len() == 4;
        self.screen.check(damaged, "this session still sees the present, with its damage")?;
        Ok(())
    }

    async fn lose_the_meta_store(&mut self, server: ServerProcess) -> Result<(), DemoError> {
        self.screen.step("Stop the server and lose the meta store")?;
        server.stop().await?;
        self.screen.command(&self.stores.losing_command())?;
        self.stores.lose_metadata().await?;
        let (has_metadata, objects) =
            (self.stores.has_metadata().await?, self.stores.data_objects().await?);
        self.screen.result(&format!("{objects} objects in the data directory"))?;
        let lost = !has_metadata && objects > 0;
        self.screen.check(lost, "the data is still there, but nothing says what it means")?;
        Ok(())
    }

    async fn rehearse_the_restore(&mut self) -> Result<(), DemoError> {
        self.screen.step("A wrong id is refused, and a dry run only shows the plan")?;
        let wrong = self.stores.restore_args("99").into_iter();
        let outcome = self.risectl(None, wrong).await?;
        let refused = !outcome.success && outcome.text.contains("snapshot id 99 not found");
        self.screen.check(refused, "a snapshot that is not there is an error")?;
        let dry = self.stores.restore_args("1").into_iter().chain(["--dry-run".to_owned()]);
        let outcome = self.risectl(None, dry).await?;
        let complete = outcome.success && outcome.text.contains("Complete dry run.");
        self.screen.check(complete, "the dry run finds everything it needs")?;
        let empty = !self.stores.has_metadata().await?;
        self.screen.check(empty, "the target is as empty as before")?;
        Ok(())
    }

    async fn restore(&mut self) -> Result<(), DemoError> {
        self.screen.step("Restore the first snapshot")?;
        let args = self.stores.restore_args("1").into_iter();
        let outcome = self.risectl(None, args).await?;
        let good = outcome.success && outcome.text.contains("command succeeded");
        self.screen.check(good, "the restore succeeded")?;
        let there = self.stores.has_metadata().await?;
        self.screen.check(there, "the meta store is there again")?;
        Ok(())
    }

    async fn compare_again(
        &mut self,
        server: &ServerProcess,
        before: &Moment,
        between: &Moment,
    ) -> Result<(), DemoError> {
        self.screen.step("Compare again")?;
        let session = Session::open(server).await?;
        let seen = session.picture().await?;
        self.screen.result(&seen.table(Some(("to the truth", &before.picture))))?;
        self.screen.check(seen == before.picture, "every table is as before the damage")?;
        let listed = session.show(self.screen, SNAPSHOTS).await?;
        self.screen.check(listed.row_count() == 2, "the later snapshot is still listed")?;
        session.show(self.screen, &format!("SET QUERY_EPOCH = {}", between.epoch)).await?;
        let past = session.picture().await?;
        self.screen.check(past == between.picture, "and the past inside it can still be read")?;
        Ok(())
    }

    async fn go_on(&mut self, server: &ServerProcess) -> Result<(), DemoError> {
        self.screen.step("Life goes on")?;
        let session = Session::open(server).await?;
        let insert = "INSERT INTO region VALUES (5, 'ATLANTIS', 'above water again')";
        session.show(self.screen, insert).await?;
        let rows = session.show_value(self.screen, "SELECT count(*) FROM region").await?;
        self.screen.check(rows == "6", "new rows are taken")?;
        let id = session.show_value(self.screen, "BACKUP").await?;
        let new = id.parse::<u64>().is_ok_and(|id| id > 2);
        self.screen.check(new, "the next snapshot takes an id that was never used")?;
        Ok(())
    }

    /// Runs `risectl`; shows the command and its output.
    async fn risectl(
        &mut self,
        server: Option<&ServerProcess>,
        args: impl Iterator<Item = String>,
    ) -> Result<Outcome, DemoError> {
        let args: Vec<String> = args.collect();
        let meta_addr = server.map(|server| server.meta_addr);
        let environment = meta_addr.map(|addr| format!("RW_META_ADDR=http://{addr} "));
        let line = format!("{}tidemark risectl", environment.unwrap_or_default());
        self.screen.command(&command_line(&line, &args))?;
        let environment = self.stores.environment();
        let outcome = risectl(&self.program, meta_addr, environment, &args).await?;
        self.screen.result(&outcome.text)?;
        Ok(outcome)
    }
}

fn words(text: &'static str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

/// A command as one would type it; a long one has one flag per line.
fn command_line(program: &str, args: &[String]) -> String {
    let mut line = program.to_owned();
    let mut broken = program.to_owned();
    for arg in args {
        let shown = storage_url::mask(arg);
        let word = shell_word(&shown);
        line.push_str(&format!(" {word}"));
        let break_or_space = if arg.starts_with("--") { " \\\n    " } else { " " };
        broken.push_str(&format!("{break_or_space}{word}"));
    }
    if line.len() <= COMMAND_WIDTH { line } else { broken }
}

/// A progress bar on stderr; draws nothing if that is not a terminal.
fn progress_bar(rows: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("   {msg:9} {wide_bar} {human_pos} rows, {per_sec}")
        .expect("the template is fixed and valid");
    ProgressBar::new(rows).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_broken_before_their_flags() {
        let short = words("meta list-meta-snapshots --json").collect::<Vec<_>>();
        assert_eq!(command_line("risectl", &short), "risectl meta list-meta-snapshots --json");
        let long = ["meta".to_owned(), "--remarks".to_owned(), "x y".repeat(40)];
        let line = command_line("risectl", &long);
        assert!(line.starts_with("risectl meta \\\n    --remarks 'x y"), "{line}");
    }
}
