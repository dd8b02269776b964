//! `cairn version`.

use crate::Globals;
use crate::exit::{self, Outcome};
use crate::output::{Output, Reader};
use cairn_format::version::{COMPAT_KNOWN, FORMAT_VERSION, INCOMPAT_KNOWN, RO_COMPAT_KNOWN};
use clap::Args;
use serde::Serialize;

/// Print the version
#[derive(Args)]
#[command(
    long_about = "Print the version, the commit it was built from where that is known, the format \
                  version of pools it makes and opens, the feature bits it knows of (compat, \
                  ro_compat, incompat), and what it speaks.",
    after_help = "Examples:\n  cairn version\n  cairn version --json | jq -r .commit"
)]
pub struct Version {}

#[derive(Serialize)]
struct Record {
    version: &'static str,
    commit: &'static str,
    format_version: u32,
    format_features: FormatFeatures,
    features: &'static [&'static str],
}

#[derive(Serialize)]
struct FormatFeatures {
    compat: u64,
    ro_compat: u64,
    incompat: u64,
}

/// What clients and operators may count on.
const FEATURES: &[&str] = &["nfs3", "mount3", "portmap2", "control1", "online-check", "changes"];

impl Version {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let mut out = Output::new(globals.json);
        let record = Record {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("CAIRN_BUILD_COMMIT").unwrap_or("unknown"),
            format_version: FORMAT_VERSION,
            format_features: FormatFeatures {
                compat: COMPAT_KNOWN,
                ro_compat: RO_COMPAT_KNOWN,
                incompat: INCOMPAT_KNOWN,
            },
            features: FEATURES,
        };
        let mut reader = Reader::Wants;
        if globals.json {
            reader = out.record(&record, |_| String::new())?;
        }
        for line in lines(&record).iter().filter(|_| !globals.json) {
            if reader == Reader::Wants {
                reader = out.line(line)?;
            }
        }
        out.finish()?;
        Ok(Outcome::Done)
    }
}

fn lines(record: &Record) -> Vec<String> {
    let bits = &record.format_features;
    vec![
        format!("version {}", record.version),
        format!("commit {}", record.commit),
        format!("format_version {}", record.format_version),
        format!("format_features {:#x} {:#x} {:#x}", bits.compat, bits.ro_compat, bits.incompat),
        format!("features {}", record.features.join(" ")),
    ]
}
