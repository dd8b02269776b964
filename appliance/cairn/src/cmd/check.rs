//! `cairn check`: is everything that a pool promises true?

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::offline::ReadPool;
use crate::output::{Output, Reader};
use crate::pool_args::DIR_DEFAULT;
use cairn_check::{CheckOptions, Counts, Finding, Progress, check};
use cairn_daemon::Place;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;

/// Verify a pool, off line
#[derive(Args)]
#[command(
    long_about = "Verify a pool while no daemon serves it: every structure, link counts, that each \
                  block has one owner, that indexes equal what they index, and with --data every \
                  data block against its checksum. Reads only. Each finding is a line: kind, \
                  object, detail.\n\nExit codes: 0 nothing found, 1 something found, 2 could not run.",
    after_help = "Examples:\n  cairn check\n  cairn check --dir /srv/archive --data\n  \
                  cairn check --meta /dev/nvme0n1 --data /dev/nvme1n1 --json\n  \
                  cairn check --meta /dev/nvme0n1 --data /dev/nvme1n1 --data"
)]
pub struct Check {
    /// An embedded pool's folder [default: ./cairn-data]
    #[arg(long, value_name = "DIR", conflicts_with = "meta")]
    dir: Option<PathBuf>,

    /// The metadata device; without a data device it holds everything
    #[arg(long, value_name = "DEV")]
    meta: Option<PathBuf>,

    /// Bare: read all file data too. With DEV: the data device, beside --meta. May be given twice
    #[arg(long, value_name = "DEV", num_args = 0..=1, default_missing_value = "", value_parser = clap::value_parser!(OsString))]
    data: Vec<OsString>,
}

#[derive(Serialize)]
struct Record<'a> {
    kind: &'a str,
    object: &'a str,
    detail: &'a str,
}

impl Check {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        self.run_check(globals).map_err(Error::exits_2)
    }

    /// The place, and whether to read file data: the contract gives `--data` both meanings.
    fn wanted(&self) -> Result<(Place, bool), Error> {
        let bare = |data: &&OsString| data.is_empty();
        let with_data = self.data.iter().any(|data| bare(&data));
        let mut devices = self.data.iter().filter(|data| !bare(data));
        let (device, more) = (devices.next(), devices.next());
        let place = match (&self.meta, device) {
            (Some(meta), data) => {
                Place::Devices { meta: meta.clone(), data: data.map(PathBuf::from) }
            }
            (None, None) => Place::Dir(self.dir.clone().unwrap_or_else(|| DIR_DEFAULT.into())),
            (None, Some(data)) => {
                return Err(Error::usage(
                    data.to_string_lossy(),
                    "a data device goes with --meta DEV",
                ));
            }
        };
        match more {
            None => Ok((place, with_data)),
            Some(_) => Err(Error::usage(place, "one data device, please")),
        }
    }

    fn run_check(&self, globals: &Globals) -> exit::Result {
        let (place, with_data) = self.wanted()?;
        if globals.socket.is_some() {
            return Err(Error::usage(place, "check works off line and takes no --socket yet"));
        }
        let pool = ReadPool::open(&place)?;
        let options = CheckOptions { data: with_data, ..CheckOptions::default() };
        let bar = progress_bar();
        let show = |progress: Progress| {
            bar.set_message(progress.phase);
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let checked = pool.offline.run(check(&**pool.offline.disk(), options, show));
        bar.finish_and_clear();
        let report = checked.map_err(|error| pool.failed(error))?;
        let mut out = Output::new(globals.json);
        let mut reader = Reader::Wants;
        for Finding { kind, object, detail } in &report.findings {
            if reader == Reader::Wants {
                reader = out.record(&Record { kind, object, detail }, |record| {
                    format!("{}: {}: {}", record.kind, record.object, record.detail)
                })?;
            }
        }
        out.finish()?;
        let listed = report.findings.len() as u64;
        if report.findings_total > listed {
            eprintln!("{} more findings are not listed", report.findings_total - listed);
        }
        eprintln!("{}", summary(&report.counts, report.findings_total));
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Found })
    }
}

/// Hidden where stderr is no terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn summary(counts: &Counts, findings: u64) -> String {
    format!(
        "checked {} tablets, {} inodes, {} names, {} extents, {} nodes, {} items, {} log batches, \
         {} data blocks: {findings} findings",
        counts.tablets,
        counts.inodes,
        counts.dirents,
        counts.extents,
        counts.nodes,
        counts.items,
        counts.log_batches,
        counts.data_blocks_read
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        check: Check,
    }

    fn wanted(arguments: &[&str]) -> Option<(Place, bool)> {
        let line = Line::try_parse_from([&["check"], arguments].concat()).ok()?;
        line.check.wanted().ok()
    }

    #[test]
    fn data_is_a_wish_when_bare_and_a_device_beside_meta() {
        let dir = |dir: &str| Place::Dir(dir.into());
        let devices =
            |data: Option<&str>| Place::Devices { meta: "m".into(), data: data.map(PathBuf::from) };
        assert_eq!(wanted(&[]), Some((dir(DIR_DEFAULT), false)));
        assert_eq!(wanted(&["--data"]), Some((dir(DIR_DEFAULT), true)));
        assert_eq!(wanted(&["--data", "--dir", "d"]), Some((dir("d"), true)));
        assert_eq!(wanted(&["--meta", "m", "--data"]), Some((devices(None), true)));
        assert_eq!(wanted(&["--meta", "m", "--data", "d"]), Some((devices(Some("d")), false)));
        let both = ["--data", "--meta", "m", "--data", "d"];
        assert_eq!(wanted(&both), Some((devices(Some("d")), true)));
        assert_eq!(wanted(&["--data", "d"]), None);
        assert_eq!(wanted(&["--meta", "m", "--data", "d", "--data", "e"]), None);
    }
}
