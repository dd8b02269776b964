//! `cairn version`.

use crate::Globals;
use crate::exit::{self, Outcome};
use crate::output::Output;
use clap::Args;
use serde::Serialize;

/// Print the version
#[derive(Args)]
#[command(after_help = "Example:\n  cairn version")]
pub struct Version {}

#[derive(Serialize)]
struct Record {
    version: &'static str,
}

impl Version {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let mut out = Output::new(globals.json);
        let record = Record { version: env!("CARGO_PKG_VERSION") };
        let _ = out.record(&record, |record| record.version.to_owned())?;
        out.finish()?;
        Ok(Outcome::Done)
    }
}
