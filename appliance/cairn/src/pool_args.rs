//! How an offline command is told which pool: `--dir DIR`, or `--meta DEV [--data DEV]`.

use cairn_daemon::Place;
use clap::Args;
use std::path::PathBuf;

pub const DIR_DEFAULT: &str = "./cairn-data";

#[derive(Args)]
pub struct PoolArgs {
    /// An embedded pool's folder [default: ./cairn-data]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["meta", "data"])]
    dir: Option<PathBuf>,

    /// The metadata device; without --data it holds everything
    #[arg(long, value_name = "DEV")]
    meta: Option<PathBuf>,

    /// The data device
    #[arg(long, value_name = "DEV", requires = "meta")]
    data: Option<PathBuf>,
}

impl PoolArgs {
    pub fn place(&self) -> Place {
        match &self.meta {
            Some(meta) => Place::Devices { meta: meta.clone(), data: self.data.clone() },
            None => Place::Dir(self.dir.clone().unwrap_or_else(|| DIR_DEFAULT.into())),
        }
    }

    pub fn is_said(&self) -> bool {
        self.dir.is_some() || self.meta.is_some()
    }
}
