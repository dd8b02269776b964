//! `cairn df`: space.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader};
use cairn_control::proto::DfEntry;
use clap::Args;

/// Show space
#[derive(Args)]
#[command(
    long_about = "Show space, a line for each device: role (mixed for a pool of one device, else meta \
                  or data), bytes of a block, blocks the pool has, blocks used, blocks that a new \
                  file could use (of a meta device: its metadata), percent used, blocks the device \
                  has grown by since, which resize-devices takes up.",
    after_help = "Examples:\n  cairn df\n  cairn df --json | jq .blocks_free"
)]
pub struct Df {}

impl Df {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let reply = with_daemon(globals, async |mut client| {
            client.df().await.map_err(|error| Error::client(live::socket(globals).display(), error))
        })?;
        let mut out = Output::new(globals.json);
        let mut reader =
            out.header("role block_bytes blocks_total blocks_used blocks_free used% blocks_more")?;
        for entry in &reply.entries {
            if reader == Reader::Gone {
                break;
            }
            reader = out.record(entry, line)?;
        }
        out.finish()?;
        Ok(Outcome::Done)
    }
}

fn line(entry: &DfEntry) -> String {
    let used = u128::from(entry.blocks_used) * 100;
    let percent = used.div_ceil(u128::from(entry.blocks_total.max(1)));
    format!(
        "{} {} {} {} {} {percent}% {}",
        entry.role,
        entry.block_bytes,
        entry.blocks_total,
        entry.blocks_used,
        entry.blocks_free,
        entry.blocks_more
    )
}
