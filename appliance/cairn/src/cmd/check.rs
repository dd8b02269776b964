//! `cairn check`: is everything that a pool promises true?

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{SOCKET_FILE, with_daemon};
use crate::offline::ReadPool;
use crate::output::{Output, Reader};
use crate::pool_args::DIR_DEFAULT;
use cairn_check::{CheckOptions, Finding, Progress, check};
use cairn_control::Client;
use cairn_control::proto::check_reply::News;
use cairn_control::proto::{CheckFinding, CheckProgress, CheckRequest, CheckSummary};
use cairn_daemon::{Place, summary};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use nix::errno::Errno;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Verify a pool, on line or off
#[derive(Args)]
#[command(
    long_about = "Verify a pool: every structure, link counts, that each block has one owner, that \
                  indexes equal what they index, and with --data every data block against its \
                  checksum. Reads only. Each finding is a line: kind, object, detail.\n\nWith --socket \
                  the daemon checks the pool that it serves, as it was at one moment, while clients go \
                  on; else no daemon may serve it. On line, blocks that are freed meanwhile are used \
                  again when the check has ended. Clients come first: if they ask for space when less than \
                  an eighth of the pool is unassigned, the check ends without a result (ESTALE). A daemon does one \
                  check at a time.\n\nExit codes: 0 nothing found, 1 something found, 2 could not run.",
    after_help = "Examples:\n  cairn check\n  cairn check --dir /srv/archive --data\n  \
                  cairn check --socket ./cairn-data/control.sock --data\n  \
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
        let bar = progress_bar();
        let (findings, summary) = match &globals.socket {
            None => check_off_line(&place, with_data, &bar)?,
            Some(_) if self.dir.is_some() || self.meta.is_some() => {
                let text = "--socket checks the pool of that daemon: name no other";
                return Err(Error::usage(place, text));
            }
            Some(socket) => {
                let object = socket.display().to_string();
                with_daemon(globals, |client| check_on_line(client, with_data, &bar, object))?
            }
        };
        bar.finish_and_clear();
        print(globals, &findings, &summary)
    }
}

type Found = (Vec<CheckFinding>, CheckSummary);

fn check_off_line(place: &Place, data: bool, bar: &ProgressBar) -> Result<Found, Error> {
    let pool = ReadPool::open(place).map_err(|error| match live_socket(place) {
        Some(socket) => {
            let advice = format!("check it on line: cairn check --socket {}", socket.display());
            error.advised(Errno::EBUSY, &advice)
        }
        None => error,
    })?;
    let options = CheckOptions { data, ..CheckOptions::default() };
    let show = |Progress { phase, done, total }| show(bar, phase, done, total);
    let checked = pool.offline.run(check(&**pool.offline.disk(), options, show));
    let report = checked.map_err(|error| pool.failed(error))?;
    let finding = |finding: Finding| CheckFinding {
        kind: finding.kind.into(),
        object: finding.object,
        detail: finding.detail,
    };
    let summary = summary(&report.counts, report.findings_total);
    Ok((report.findings.into_iter().map(finding).collect(), summary))
}

async fn check_on_line(
    mut client: Client,
    data: bool,
    bar: &ProgressBar,
    object: String,
) -> Result<Found, Error> {
    let failed = |error| Error::client(&object, error);
    let mut check = client.check(CheckRequest { data }).await.map_err(failed)?;
    let mut findings = Vec::new();
    while let Some(news) = check.news().await.map_err(failed)? {
        match news {
            News::Progress(CheckProgress { phase, done, total }) => {
                show(bar, &phase, done, total);
            }
            News::Finding(finding) => findings.push(finding),
            News::Summary(summary) => return Ok((findings, summary)),
        }
    }
    Err(Error::new(&object, Errno::ECONNRESET, "the daemon broke off"))
}

/// The socket of the daemon that serves an embedded pool.
fn live_socket(place: &Place) -> Option<PathBuf> {
    let Place::Dir(dir) = place else { return None };
    let socket = dir.join(SOCKET_FILE);
    UnixStream::connect(&socket).is_ok().then_some(socket)
}

fn print(globals: &Globals, findings: &[CheckFinding], summary: &CheckSummary) -> exit::Result {
    let mut out = Output::new(globals.json);
    let mut reader = Reader::Wants;
    for finding in findings {
        if reader == Reader::Wants {
            reader = out.record(finding, |CheckFinding { kind, object, detail }| {
                format!("{kind}: {object}: {detail}")
            })?;
        }
    }
    out.finish()?;
    let listed = findings.len() as u64;
    if summary.findings > listed {
        eprintln!("{} more findings are not listed", summary.findings - listed);
    }
    eprintln!("{}", summary_line(summary));
    Ok(if summary.findings == 0 { Outcome::Done } else { Outcome::Found })
}

fn show(bar: &ProgressBar, phase: &str, done: u64, total: u64) {
    bar.set_message(phase.to_owned());
    bar.set_length(total);
    bar.set_position(done);
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

fn summary_line(summary: &CheckSummary) -> String {
    format!(
        "checked {} tablets, {} inodes, {} names, {} extents, {} nodes, {} items, {} log batches, \
         {} data blocks: {} findings",
        summary.tablets,
        summary.inodes,
        summary.names,
        summary.extents,
        summary.nodes,
        summary.items,
        summary.log_batches,
        summary.data_blocks,
        summary.findings
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
