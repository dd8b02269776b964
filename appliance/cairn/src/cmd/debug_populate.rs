//! `cairn debug-populate`: many empty files, made straight at the engine. Hidden: for measurements.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::pool_args::PoolArgs;
use cairn_daemon::{Claim, Mode, patiently};
use clap::Args;

/// Fill a pool that is not served with empty files
#[derive(Args)]
pub struct DebugPopulate {
    #[command(flatten)]
    pool: PoolArgs,

    /// How many
    #[arg(long, value_name = "N")]
    files: u64,
}

impl DebugPopulate {
    pub fn run(&self, _globals: &Globals) -> exit::Result {
        let place = self.pool.place();
        let claim = patiently(|| Claim::take(place.devices(), Mode::ReadWrite));
        let filled = claim.and_then(|claim| cairn_daemon::populate(&claim, self.files));
        filled.map_err(|failure| Error::failure(&place, failure))?;
        Ok(Outcome::Done)
    }
}
