//! `cairn print`: a pool's bytes, off line.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::pool_args::PoolArgs;
use crate::print::{Depth, PoolBytes, Sink, logs, roots, trees};
use cairn_format::TabletId;
use clap::{Args, ValueEnum};
use nix::errno::Errno;

/// Show a pool's structures, off line
#[derive(Args)]
#[command(
    long_about = "Show a pool's structures, one record a line, while no daemon serves it: what is \
                  in its superblocks, tablet roots, logs, tree nodes or items. Changes that are in a \
                  log only are shown by `logs`, not by `nodes` and `items`. What is damaged is \
                  shown as such, and makes the exit code 1.",
    after_help = "Examples:\n  cairn print superblock\n  cairn print roots --dir /srv/archive\n  \
                  cairn print items --tablet 1 --json | jq -r .key\n  \
                  cairn print logs --meta /dev/nvme0n1 --data /dev/nvme1n1"
)]
pub struct Print {
    what: What,

    #[command(flatten)]
    pool: PoolArgs,

    /// Only this tablet
    #[arg(long, value_name = "N")]
    tablet: Option<u16>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Superblocks, devices and log areas
    Superblock,
    /// Tablet roots and the trees they name
    Roots,
    /// Batches of the write logs and the edits in them
    Logs,
    /// Nodes of the trees
    Nodes,
    /// Items of the trees
    Items,
}

impl Print {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let place = self.pool.place();
        if globals.socket.is_some() {
            return Err(Error::usage(place, "print works off line and takes no --socket"));
        }
        let pool = PoolBytes::open(&place)?;
        let count = pool.superblock().tablets.get();
        let tablets: Vec<TabletId> = match self.tablet {
            None => (0..count).map(TabletId).collect(),
            Some(tablet) if tablet < count => vec![TabletId(tablet)],
            Some(_) => {
                return Err(Error::usage(place, format!("the pool has tablets 0 to {}", count - 1)));
            }
        };
        let mut sink = Sink::new(globals.json);
        match self.what {
            What::Superblock => pool.print_superblocks(&mut sink)?,
            What::Roots => roots(&pool, &tablets, &mut sink)?,
            What::Logs => logs(&pool, self.tablet.map(TabletId), &mut sink)?,
            What::Nodes => trees(&pool, &tablets, Depth::Nodes, &mut sink)?,
            What::Items => trees(&pool, &tablets, Depth::Items, &mut sink)?,
        }
        match sink.finish()? {
            0 => Ok(Outcome::Done),
            places => {
                Err(Error::new(place, Errno::EUCLEAN, format!("{places} damaged places were met")))
            }
        }
    }
}
