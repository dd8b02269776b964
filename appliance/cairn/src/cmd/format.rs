//! `cairn format`: make a pool.

use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::output::Output;
use crate::pool_args::PoolArgs;
use cairn_daemon::FormatRequest;
use clap::Args;
use serde::Serialize;

/// Make a pool
#[derive(Args)]
#[command(
    long_about = "Make a pool: in the file DIR/pool, or on devices. Refuses devices that hold a \
                  file system, a partition table or a pool, unless --force is given; a pool that \
                  is being served is refused always.",
    after_help = "Examples:\n  cairn format --dir ./cairn-data --size 64G\n  \
                  cairn format --meta /dev/nvme0n1 --data /dev/nvme1n1\n  \
                  cairn format --meta /dev/vdb --tablets 512 --force"
)]
pub struct Format {
    #[command(flatten)]
    pool: PoolArgs,

    /// Size of DIR/pool, sparse [default: 64G, or half the free space where that is less]
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true, conflicts_with = "meta")]
    size: Option<u64>,

    /// Slices of the file system, fixed for its life, 2 to 4096 [default: 256, fewer if small]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=4096),
          allow_negative_numbers = true)]
    tablets: Option<u16>,

    /// Destroy what is there
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Record {
    fsid: String,
    tablets: u16,
}

impl Format {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let place = self.pool.place();
        if !self.pool.is_said() {
            return Err(Error::usage(place, "say where: --dir DIR, or --meta DEV"));
        }
        let request = FormatRequest {
            place: place.clone(),
            size: self.size,
            tablets: self.tablets,
            force: self.force,
        };
        let made = cairn_daemon::format(&request).map_err(|f| Error::failure(&place, f))?;
        let fsid = made.fsid.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut out = Output::new(globals.json);
        let record = Record { fsid, tablets: made.tablets };
        let _ = out.record(&record, |r| format!("fsid {} tablets {}", r.fsid, r.tablets))?;
        out.finish()?;
        Ok(Outcome::Done)
    }
}
