//! `cairn walk-inodes`: what changed, in order, without a scan.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader};
use crate::position::Position;
use cairn_control::proto::{ChangeIndex, IndexPosition, WalkInodesRequest};
use clap::{Args, ValueEnum};

/// List inodes in the order of their last change
#[derive(Args)]
#[command(
    long_about = "List inodes in the order of their last change, `seq ino` a line, each once, from \
                  FIRST to LAST, both inclusive. meta_seq has every inode by its last change of any \
                  kind; data_seq has regular files by their last change of data. What is listed is \
                  durable, and nothing at or below the last seq listed can appear later.",
    after_help = "Examples:\n  cairn walk-inodes meta_seq 0 -1\n  \
                  cairn walk-inodes data_seq 1767225600000000.4097 -1\n  \
                  cairn walk-inodes meta_seq 0 -1 --json | tail -1"
)]
pub struct WalkInodes {
    index: Index,

    /// SEQ[.INO], or -1 for the last
    #[arg(allow_negative_numbers = true)]
    first: Position,

    /// SEQ[.INO], or -1 for the last
    #[arg(allow_negative_numbers = true)]
    last: Position,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Index {
    MetaSeq,
    DataSeq,
}

impl Index {
    fn name(self) -> &'static str {
        match self {
            Index::MetaSeq => "meta_seq",
            Index::DataSeq => "data_seq",
        }
    }
}

impl WalkInodes {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let mut request = WalkInodesRequest {
            first: Some(self.first.first()),
            last: Some(self.last.last()),
            ..WalkInodesRequest::default()
        };
        request.set_index(match self.index {
            Index::MetaSeq => ChangeIndex::MetaSeq,
            Index::DataSeq => ChangeIndex::DataSeq,
        });
        let failed = |error| Error::client(self.index.name(), error);
        let mut out = Output::new(globals.json);
        let mut reader = out.header("seq ino")?;
        with_daemon(globals, async |mut client| {
            let mut walk = client.walk_inodes(request).await.map_err(failed)?;
            while reader == Reader::Wants
                && let Some(page) = walk.page().await.map_err(failed)?
            {
                for entry in &page {
                    reader = out.record(entry, line)?;
                }
            }
            out.finish()
        })?;
        Ok(Outcome::Done)
    }
}

fn line(entry: &IndexPosition) -> String {
    format!("{} {}", entry.seq, entry.ino)
}
