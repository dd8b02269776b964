//! `cargo xtask bench instructions`: what a call costs the daemon in instructions of user space.
//!
//! Time on a shared machine is noise; a count of instructions is not. So the daemon runs under
//! callgrind, the load generator outside of it, once with N calls and once with 2 N: the difference is
//! N calls, with what mounting, preparing and connecting cost gone. All threads of the daemon are
//! counted, libraries included; the kernel is not.
//!
//! Two things stand in the way. Valgrind runs one thread at a time and does not know that
//! `io_uring_enter` may wait: a shard that sleeps in its ring would keep the control thread from ever
//! running, so the shard must not sleep, and its configuration says `idle = "busy"`. A shard that polls
//! burns instructions while it waits. But each round of its loop that found nothing asks the kernel once
//! whether its core was taken away (`getrusage`, in `shard_loop.rs`), so those rounds are counted, what
//! one costs is measured while nobody calls, and both totals and functions are shown without them.
//!
//! Valgrind also counts a `rep movsb` once for each byte, where the processor counts one. So the C
//! library is told to copy with vector registers, whatever the length.
//!
//! What the daemon does later for a call (freezing a memtable, folding, write-back) counts when it falls
//! into the run, and shows as spread.

use super::callgrind::Profile;
use super::ours::parse_ready;
use super::process::Process;
use super::server::{Generator, Server};
use super::stop::Stop;
use crate::run;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

#[derive(Args)]
pub struct Options {
    /// Operations of the shorter run; the longer one has twice as many
    #[arg(long, default_value_t = 4000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    calls: u32,
    /// How often both runs are done
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Workloads of `cairn-bench nfs`, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "null,getattr,lookup,read4k-cached,randwrite-sync,create"
    )]
    workload: Vec<String>,
    /// Functions that are listed of each, by instructions of their own
    #[arg(long, default_value_t = 12, value_name = "N")]
    top: usize,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
    /// A cairn to measure in place of the tree's own, which is then not built
    #[arg(long, value_name = "FILE")]
    cairn: Option<PathBuf>,
    /// Where callgrind's dumps are kept, for callgrind_annotate [default: nowhere]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const READY_TIME_MAX: Duration = Duration::from_secs(120);
const RUN_MAX: Duration = Duration::from_secs(600);
/// Of the generator's own bound; an operation is some 50 times slower than without valgrind.
const WORKLOAD_SECONDS_MAX: &str = "500";
const IDLE: Duration = Duration::from_millis(500);
/// Sparse, and never full.
const POOL_SIZE: &str = "16G";
const LARGE_FILES: &str = "16M";
/// What is listed, and where names are looked up.
const FILES: u32 = 2000;
/// Longer than any copy. The C library takes it from its environment.
const COPY_BY_VECTORS: &str = "glibc.cpu.x86_rep_movsb_threshold=1000000000:\
                               glibc.cpu.x86_rep_stosb_threshold=1000000000";
/// Called once for each round of a shard's loop that had nothing to do.
const IDLE_ROUND: &str = "getrusage";

struct Row {
    workload: String,
    /// Of each round, in order.
    totals: Vec<f64>,
    /// Of the round whose total is the median.
    profile: Profile,
}

pub fn run_instructions(root: &Path, options: &Options) -> Result<ExitCode> {
    // `vgdb` comes with it.
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        bail!("valgrind does not start: install the package of that name (apt install valgrind)");
    }
    let (target, binary) = super::build(root, options.cairn.as_deref())?;
    let stop = Stop::install(None)?;
    let folder = tempfile::Builder::new()
        .prefix("bench-run-")
        .tempdir_in(&target)
        .context("cannot make a folder for the daemon")?;
    let generator = target.join("release/cairn-bench");
    let setting = Setting { options, generator, stop: &stop };
    let daemon = Daemon::start(&binary, folder.path(), &stop)?;
    if !options.json {
        println!("{:<19}{:>14}{:>9}", "workload", "instructions", "spread");
    }
    for workload in &options.workload {
        let row = daemon.measure(workload, &setting)?;
        if options.json {
            println!("{}", row.json(options.top));
        } else {
            println!("{}", row.text(options.top));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What all measurements have in common.
struct Setting<'a> {
    options: &'a Options,
    generator: PathBuf,
    stop: &'a Stop,
}

/// cairn under callgrind. Counting is on from the moment when it is ready.
struct Daemon {
    process: Process,
    address: String,
    folder: PathBuf,
}

impl Daemon {
    fn start(binary: &Path, folder: &Path, stop: &Stop) -> Result<Daemon> {
        let pool = folder.join("pool");
        let mut format = Command::new(binary);
        format.args(["format", "--size", POOL_SIZE]).arg("--dir").arg(&pool);
        ensure!(run::succeeds(format.stdout(Stdio::null()))?, "the pool cannot be made");
        let config = folder.join("cairn.toml");
        let text = format!(
            "[pool]\ndir = {pool:?}\n[nfs]\nlisten = \"127.0.0.1:0\"\n[control]\n\
             socket = {:?}\n[shards]\ncount = 1\nidle = \"busy\"\n",
            folder.join("socket")
        );
        std::fs::write(&config, text).context("cannot write the daemon's configuration")?;
        let mut command = Command::new("valgrind");
        command.env("GLIBC_TUNABLES", COPY_BY_VECTORS);
        command.args(["--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes"]);
        command.args(["--compress-strings=no", "--compress-pos=no", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", folder.join("callgrind").display()));
        command.arg(binary).arg("serve").arg("--config").arg(&config);
        let mut process = Process::start("valgrind", &mut command, &folder.join("cairn.log"))?;
        let mut address = None;
        stop.wait_until(READY_TIME_MAX, "the start of cairn under valgrind", || {
            process.ensure_alive()?;
            address = parse_ready(&process.output()?).map(|(address, _)| address);
            Ok(address.is_some())
        })?;
        let address = address.context("cairn is ready nowhere")?;
        let daemon = Daemon { process, address, folder: folder.to_owned() };
        daemon.tell(&["instrumentation", "on"])?;
        Ok(daemon)
    }

    fn tell(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("vgdb");
        command.arg(format!("--pid={}", self.process.pid())).args(words);
        let said = command.output().context("cannot start vgdb")?;
        ensure!(said.status.success(), "valgrind does not listen to {words:?}");
        Ok(())
    }

    /// What was counted since the last time.
    fn dump(&self) -> Result<String> {
        self.tell(&["dump"])?;
        // Callgrind numbers its dumps, and the file of the run's end is there and empty.
        let dumps = std::fs::read_dir(&self.folder)?.filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_dump = path.file_name()?.to_str()?.starts_with("callgrind.");
            is_dump.then_some(path)
        });
        let mut dumps: Vec<PathBuf> = dumps.collect();
        let dump = dumps.pop().context("callgrind wrote no dump")?;
        ensure!(dumps.is_empty(), "callgrind writes more dumps than were asked for");
        let text = std::fs::read_to_string(&dump)?;
        std::fs::remove_file(dump)?;
        Ok(text)
    }

    fn measure(&self, workload: &str, setting: &Setting<'_>) -> Result<Row> {
        let options = setting.options;
        // The first run of a workload meets what is not in memory yet.
        self.run(workload, options.calls, setting)?;
        self.dump()?;
        setting.stop.wait(IDLE)?;
        let idle = Profile::parse(&self.dump()?)?;
        let rounds = idle.calls_of(IDLE_ROUND);
        ensure!(rounds > 0.0, "no idle round is seen: does the shard still call {IDLE_ROUND}?");
        let idle = idle.divided(rounds);
        let counted = |round: u16, calls: u32| -> Result<(f64, Profile)> {
            let operations = self.run(workload, calls, setting)?;
            let dump = self.dump()?;
            if let Some(out) = &options.out {
                std::fs::create_dir_all(out)?;
                std::fs::write(out.join(format!("{workload}-{calls}.{round}")), &dump)?;
            }
            let profile = Profile::parse(&dump)?;
            let idle_rounds = profile.calls_of(IDLE_ROUND);
            Ok((operations, profile.less(&idle, idle_rounds)))
        };
        let mut rounds = Vec::new();
        for round in 1..=options.rounds {
            let (few, short) = counted(round, options.calls)?;
            let (many, long) = counted(round, 2 * options.calls)?;
            ensure!(many > few, "{workload} does {many} operations whatever --calls says");
            rounds.push(long.less(&short, 1.0).divided(many - few));
        }
        let totals = rounds.iter().map(Profile::total).collect();
        rounds.sort_by(|a, b| a.total().total_cmp(&b.total()));
        let profile = rounds.swap_remove(rounds.len() / 2);
        Ok(Row { workload: workload.to_owned(), totals, profile })
    }

    /// How many operations it was in the end.
    fn run(&self, workload: &str, calls: u32, setting: &Setting<'_>) -> Result<f64> {
        let files = match workload {
            "create" | "ingest" => calls,
            // The same for both runs: what makes them must go away in the difference.
            "rename" | "unlink" => 2 * setting.options.calls,
            _ => FILES,
        };
        // What would be removed would be counted.
        let words = format!(
            "--keep --workload {workload} --seconds {WORKLOAD_SECONDS_MAX} --size {LARGE_FILES} \
             --calls {calls} --files {files}"
        );
        let generator = Generator {
            binary: setting.generator.clone(),
            arguments: words.split_whitespace().map(str::to_owned).collect(),
            folder: self.folder.clone(),
            time_max: RUN_MAX,
        };
        let server = Server { url: format!("nfs://{}/", self.address), pid: self.process.pid() };
        let rows = generator.run(&server, setting.stop)?;
        rows.iter()
            .find_map(|row| row["operations"].as_f64())
            .context("cairn-bench prints no operations")
    }
}

impl Row {
    fn median(&self) -> f64 {
        self.profile.total()
    }

    fn spread_percent(&self) -> f64 {
        let least = self.totals.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.totals.iter().copied().fold(0.0, f64::max);
        (most - least) * 100.0 / self.median()
    }

    fn text(&self, top: usize) -> String {
        let (median, spread) = (self.median(), self.spread_percent());
        let mut text = format!("{:<19}{median:>14.0}{spread:>8.1}%", self.workload);
        for (function, amount) in self.profile.top(top) {
            text += &format!("\n    {amount:>10.0}{:>6.1}%  {function}", amount * 100.0 / median);
        }
        text
    }

    fn json(&self, top: usize) -> Value {
        let functions: Vec<Value> = self
            .profile
            .top(top)
            .into_iter()
            .map(|(function, amount)| json!({ "function": function, "instructions": amount }))
            .collect();
        json!({
            "workload": self.workload,
            "instructions_per_op": self.median(),
            "spread_percent": self.spread_percent(),
            "rounds": self.totals,
            "functions": functions,
        })
    }
}
