//! `cairn print`: a pool's structures, off line.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::offline::ReadPool;
use crate::output::{Output, Reader};
use crate::pool_args::PoolArgs;
use cairn_check::{Finding, print};
use cairn_format::{Key, TabletId};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// Show a pool's structures, off line
#[derive(Args)]
#[command(
    long_about = "Show a pool's structures while no daemon serves it, one record a line: the \
                  superblock, the tablets' newest roots, the batches of the write logs that an open \
                  would replay, or the items of tablets as a reader would see them, logs included. \
                  An item's key is its kind and its \
                  fields, like inode:1 or extent:4097.256. The pool's keys are secrets and are not shown.\n\nWhat is damaged is passed over; \
                  each damage met is a line on stderr: kind, object, detail, as of `cairn check`, which finds \
                  all of them.\n\nExit codes: 0 shown, 1 failed, or something may be missing from what was \
                  shown.",
    after_help = "Examples:\n  cairn print superblock\n  cairn print roots --dir /srv/archive\n  \
                  cairn print items --tablet 1 --json\n  \
                  cairn print logs --meta /dev/nvme0n1 --data /dev/nvme1n1"
)]
pub struct Print {
    #[arg(value_enum, default_value_t = What::Superblock)]
    what: What,

    #[command(flatten)]
    pool: PoolArgs,

    /// Only this tablet's items
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    tablet: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The superblock that counts, with devices and log areas
    Superblock,
    /// The newest root of each tablet
    Roots,
    /// Batches of the write logs, their records and edits
    Logs,
    /// Items, tablet by tablet
    Items,
}

/// Prints while somebody reads; the first error stays.
struct Sink {
    out: Output,
    reader: Reader,
    failed: Option<Error>,
    /// Damage on the way, each once.
    findings: Vec<Finding>,
}

impl Sink {
    /// False when there is no point in going on.
    fn print(&mut self, value: &Value) -> bool {
        if self.failed.is_none() && self.reader == Reader::Wants {
            match self.out.record(value, print::text) {
                Ok(reader) => self.reader = reader,
                Err(error) => self.failed = Some(error),
            }
        }
        self.failed.is_none() && self.reader == Reader::Wants
    }

    fn found(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }

    fn finish(self) -> exit::Result {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.out.finish()?;
        self.findings.iter().for_each(|finding| eprintln!("{finding}"));
        Ok(if self.findings.is_empty() { Outcome::Done } else { Outcome::Found })
    }
}

impl Print {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let place = self.pool.place();
        if globals.socket.is_some() {
            return Err(Error::usage(&place, "print works off line and takes no --socket"));
        }
        if self.tablet.is_some() && self.what != What::Items {
            return Err(Error::usage(&place, "--tablet goes with items"));
        }
        let pool = ReadPool::open(&place)?;
        let mut sink = Sink {
            out: Output::new(globals.json),
            reader: Reader::Wants,
            failed: None,
            findings: Vec::new(),
        };
        self.print(&pool, &mut sink)?;
        sink.finish()
    }

    fn print(&self, pool: &ReadPool, sink: &mut Sink) -> Result<(), Error> {
        let failed = |error| pool.failed(error);
        let disk = &**pool.offline.disk();
        let (superblock, findings) =
            pool.offline.run(print::pool_superblock(disk)).map_err(failed)?;
        sink.found(findings);
        match self.what {
            What::Superblock => {
                sink.print(&print::superblock(&superblock));
                Ok(())
            }
            What::Roots => {
                let each = |value| {
                    sink.print(&value);
                };
                let found = pool.offline.run(print::pool_roots(disk, each)).map_err(failed)?;
                sink.found(found);
                Ok(())
            }
            What::Logs => {
                let each = |value| {
                    sink.print(&value);
                };
                let found = pool.offline.run(print::pool_logs(disk, each)).map_err(failed)?;
                sink.found(found);
                Ok(())
            }
            What::Items => {
                let count = superblock.tablets.get();
                let tablets = match self.tablet {
                    None => 0..count,
                    Some(tablet) if tablet < count => tablet..tablet + 1,
                    Some(_) => {
                        let text = format!("the pool has tablets 0 to {}", count - 1);
                        return Err(Error::usage(&pool.place, text));
                    }
                };
                for tablet in tablets {
                    let each = |_: Key, item: Value| {
                        let mut record = json!({ "tablet": tablet });
                        if let (Value::Object(record), Value::Object(item)) = (&mut record, item) {
                            record.extend(item);
                        }
                        sink.print(&record)
                    };
                    let items = print::tablet_items(disk, TabletId(tablet), Key::MIN, each);
                    let found = pool.offline.run(items).map_err(failed)?;
                    sink.found(found);
                }
                Ok(())
            }
        }
    }
}
