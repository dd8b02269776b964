//! `cairn scrub`: reads everything that the pool refers to, and names what is damaged.

use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader, name_json, name_text};
use cairn_control::proto::scrub_reply::News;
use cairn_control::proto::{ScrubAction, ScrubFinding, ScrubProgress, ScrubRequest, ScrubSummary};
use cairn_control::{Client, ClientError};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use nix::errno::Errno;
use serde_json::{Map, Value};

const GOES_ON: &str = "the scrub goes on in the daemon: `cairn scrub` joins it, `cairn scrub --cancel` \
                       ends it";

/// Read all metadata and data of a pool that is served, and name what is damaged
#[derive(Args)]
#[command(
    long_about = "Read everything that the pool refers to from its devices, while clients go on, and \
                  compare it with what refers to it: metadata, file data, both copies of superblocks \
                  and roots. What is damaged is a line: kind, block, what it belongs to, what is \
                  wrong; of file data that is a path and where in the file. What is damaged is \
                  never returned to a client (EIO). Restore such a file from elsewhere, or remove it; the next \
                  scrub finds it sound.\n\nThe daemon does it, one pass at a time: this starts one, \
                  goes on with one that was paused, or joins one that runs, and waits for its end. \
                  Ctrl-C only stops waiting. A pass goes on after a restart of the daemon where it \
                  was. Clients come first: it reads no faster than --rate, and slower where they are \
                  busy. The write log is not read: it is at each start.\n\nExit codes: 0 nothing found, 1 \
                  something found, 2 could not run or did not come to its end. Of --background, \
                  --pause and --cancel: 0 done.",
    after_help = "Examples:\n  cairn scrub\n  cairn scrub --rate 50M --background\n  cairn scrub --status\n  \
                  cairn scrub --json | jq -r .path\n  cairn scrub --pause"
)]
pub struct Scrub {
    /// Bytes a second that the whole pool is read with at most; 0: no bound [default: 200M]
    #[arg(long, value_name = "SIZE", value_parser = rate, conflicts_with_all = ["status", "pause", "cancel"])]
    rate: Option<u64>,

    /// Start and do not wait
    #[arg(long, conflicts_with_all = ["status", "pause", "cancel"])]
    background: bool,

    /// Show how far it is, and what is known to be damaged
    #[arg(long, conflicts_with_all = ["pause", "cancel"])]
    status: bool,

    /// Stop where it is; the next start goes on from there
    #[arg(long, conflicts_with = "cancel")]
    pause: bool,

    /// End it without a result
    #[arg(long)]
    cancel: bool,
}

fn rate(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

#[derive(Default)]
struct Told {
    findings: Vec<ScrubFinding>,
    summary: ScrubSummary,
}

impl Scrub {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let interrupted = if self.waits() { GOES_ON } else { "nothing is known of it" };
        self.ask(globals).map_err(|error| error.advised(Errno::EINTR, interrupted).exits_2())
    }

    fn waits(&self) -> bool {
        !(self.background || self.status || self.pause || self.cancel)
    }

    fn request(&self) -> ScrubRequest {
        let action = if self.status {
            ScrubAction::Status
        } else if self.pause {
            ScrubAction::Pause
        } else if self.cancel {
            ScrubAction::Cancel
        } else {
            ScrubAction::Start
        };
        ScrubRequest { action: action.into(), rate: self.rate, follow: self.waits() }
    }

    fn ask(&self, globals: &Globals) -> exit::Result {
        let object = live::socket(globals).display().to_string();
        let bar = if self.waits() { progress_bar() } else { ProgressBar::hidden() };
        let listen = |client| listen(client, self.request(), &bar, &object);
        let told = with_daemon(globals, listen)?;
        bar.finish_and_clear();
        let progress = told.summary.progress.clone().unwrap_or_default();
        let mut out = Output::new(globals.json);
        let mut reader = Reader::Wants;
        if !self.waits() {
            reader = out.record(&progress, status_line)?;
        }
        let listed: &[_] = if self.waits() || self.status { &told.findings } else { &[] };
        for finding in listed {
            if reader == Reader::Wants {
                reader = show(&mut out, finding)?;
            }
        }
        out.finish()?;
        if !self.waits() && !self.status {
            return Ok(Outcome::Done);
        }
        self.end(&object, &told.summary, &progress)
    }

    fn end(&self, object: &str, summary: &ScrubSummary, progress: &ScrubProgress) -> exit::Result {
        if summary.unlisted > 0 {
            eprintln!("{} more findings are not listed", summary.unlisted);
        }
        if self.waits() {
            if progress.state != "idle" || progress.ended < progress.began {
                let text = format!("the pass has not come to its end: it is {}", progress.state);
                return Err(Error::new(object, Errno::ECANCELED, text));
            }
            eprintln!("{}", summary_line(summary, progress));
        }
        Ok(if summary.findings == 0 { Outcome::Done } else { Outcome::Found })
    }
}

async fn listen(
    mut client: Client,
    request: ScrubRequest,
    bar: &ProgressBar,
    object: &str,
) -> Result<Told, Error> {
    let failed = |error: ClientError| Error::client(object, error);
    let mut replies = client.scrub(request).await.map_err(failed)?;
    let mut told = Told::default();
    while let Some(reply) = replies.next().await.map_err(failed)? {
        match reply.news {
            Some(News::Progress(progress)) => {
                bar.set_length(progress.bytes_total);
                bar.set_position(progress.bytes_done);
                bar.set_message(format!("{} found", progress.findings));
            }
            Some(News::Finding(finding)) => told.findings.push(finding),
            Some(News::Summary(summary)) => {
                told.summary = summary;
                return Ok(told);
            }
            None => {}
        }
    }
    Err(Error::new(object, Errno::ECONNRESET, "the daemon broke off"))
}

/// Hidden where stderr is no terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A line of `cairn status` as well.
pub fn status_line(progress: &ScrubProgress) -> String {
    let percent = (progress.bytes_done * 100).checked_div(progress.bytes_total).unwrap_or(0);
    let unsaved = if progress.unsaved { " unsaved" } else { "" };
    let ended = match progress.ended {
        0 => "never".to_owned(),
        ended => format!("{}", ended / 1_000_000_000),
    };
    let how_far = match progress.state.as_str() {
        "idle" => String::new(),
        _ => format!(" {percent}% tablets {}/{}", progress.tablets_done, progress.tablets),
    };
    format!(
        "scrub {}{how_far} ended {ended} damaged {}{unsaved}",
        progress.state, progress.findings
    )
}

fn summary_line(summary: &ScrubSummary, progress: &ScrubProgress) -> String {
    let unsaved = match progress.unsaved {
        true => "; the pool has no space to remember it",
        false => "",
    };
    format!(
        "scrubbed {} tablets, {} nodes, {} data blocks ({}): {} findings{unsaved}",
        progress.tablets,
        progress.nodes,
        progress.data_blocks,
        HumanBytes(progress.nodes * 16_384 + progress.data_blocks * 4096),
        summary.findings
    )
}

fn show(out: &mut Output, finding: &ScrubFinding) -> Result<Reader, Error> {
    if out.is_json() {
        out.record(&json(finding), |_| String::new())
    } else {
        out.bytes_line(&text(finding))
    }
}

fn text(finding: &ScrubFinding) -> Vec<u8> {
    let mut line = format!("{}: ", finding.kind).into_bytes();
    match (&finding.path, finding.ino, &finding.tree) {
        (Some(path), _, _) => line.extend(name_text(path)),
        (None, Some(ino), _) => line.extend(format!("inode {ino}, which has no path").bytes()),
        (None, None, Some(tree)) => {
            let tablet = finding.tablet.unwrap_or_default();
            line.extend(format!("{tree} of tablet {tablet}").bytes());
        }
        (None, None, None) => {
            let of = match finding.tablet {
                Some(tablet) => format!("a copy of tablet {tablet}'s root"),
                None => "a copy of the superblock".into(),
            };
            line.extend(of.bytes());
        }
    }
    if let (Some(offset), Some(length)) = (finding.offset, finding.length) {
        line.extend(format!(", bytes {offset} to {}", offset + length - 1).bytes());
    }
    line.extend(format!(": block {}: {}", finding.block, finding.detail).bytes());
    if let Some(lost) = &finding.lost {
        line.extend(format!("; not readable: {lost}").bytes());
    }
    line
}

fn json(finding: &ScrubFinding) -> Value {
    let ScrubFinding { kind, block, detail, tablet, ino, offset, length, path, tree, lost, pass } =
        finding;
    let mut fields = Map::new();
    fields.insert("kind".into(), kind.as_str().into());
    fields.insert("block".into(), block.as_str().into());
    fields.insert("detail".into(), detail.as_str().into());
    let numbers =
        [("tablet", tablet), ("ino", ino), ("offset", offset), ("length", length)].into_iter();
    fields.extend(numbers.filter_map(|(name, value)| Some((name.into(), (*value)?.into()))));
    fields.extend(path.iter().map(|path| name_json("path", path)));
    let words = [("tree", tree), ("lost", lost)].into_iter();
    fields.extend(words.filter_map(|(name, value)| Some((name.into(), value.clone()?.into()))));
    fields.insert("pass".into(), (*pass).into());
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> ScrubFinding {
        ScrubFinding {
            kind: "data".into(),
            block: "1:77".into(),
            detail: "the data's checksum does not match".into(),
            tablet: Some(1),
            ino: Some(4097),
            offset: Some(8192),
            length: Some(4096),
            path: Some(b"/a\nb".into()),
            pass: 9,
            ..ScrubFinding::default()
        }
    }

    #[test]
    fn a_finding_is_one_line_that_names_the_file() {
        let line =
            "data: /a\\nb, bytes 8192 to 12287: block 1:77: the data's checksum does not match";
        assert_eq!(String::from_utf8_lossy(&text(&data())), line);
        let gone = ScrubFinding { path: None, ..data() };
        assert!(text(&gone).starts_with(b"data: inode 4097, which has no path, bytes"));
        assert_eq!(json(&data())["path"], "/a\nb");
        assert!(json(&data()).get("tree").is_none());
    }

    #[test]
    fn what_is_no_files_is_named_by_what_it_is() {
        let node = ScrubFinding {
            kind: "node".into(),
            block: "0:4".into(),
            detail: "bad".into(),
            tablet: Some(3),
            tree: Some("fs tree".into()),
            lost: Some("inodes 5 to 9".into()),
            ..ScrubFinding::default()
        };
        let line = "node: fs tree of tablet 3: block 0:4: bad; not readable: inodes 5 to 9";
        assert_eq!(String::from_utf8_lossy(&text(&node)), line);
        let copy = ScrubFinding { tree: None, lost: None, tablet: None, ..node };
        assert_eq!(text(&copy), b"node: a copy of the superblock: block 0:4: bad");
    }

    #[test]
    fn a_status_says_how_far_and_when_the_last_ended() {
        let mut progress = ScrubProgress { state: "idle".into(), ..ScrubProgress::default() };
        assert_eq!(status_line(&progress), "scrub idle ended never damaged 0");
        progress.state = "running".into();
        (progress.bytes_total, progress.bytes_done) = (400, 100);
        (progress.tablets, progress.tablets_done, progress.findings) = (8, 2, 3);
        progress.ended = 1_700_000_000_000_000_000;
        let line = "scrub running 25% tablets 2/8 ended 1700000000 damaged 3";
        assert_eq!(status_line(&progress), line);
    }
}
