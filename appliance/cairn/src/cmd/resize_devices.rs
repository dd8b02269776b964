//! `cairn resize-devices`: take up what devices have grown by.

use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader};
use cairn_control::proto::{ResizeDevicesRequest, ResizedDevice};
use clap::Args;

/// Take up what devices have grown by
#[derive(Args)]
#[command(
    long_about = "Take up what devices have grown by, while the pool is served. Without a size, each \
                  device is used as far as it goes; a file in the place of a device is made longer \
                  when a size is given. Prints role, bytes before and bytes after for each device \
                  that was asked for. Devices never shrink. A power cut in between leaves the old \
                  size or the new one.",
    after_help = "Examples:\n  cairn resize-devices\n  cairn resize-devices --data 20T\n  \
                  cairn resize-devices --size 128G   # the file of an embedded pool"
)]
pub struct ResizeDevices {
    /// Size of the metadata device, or of a pool's only device
    #[arg(long, visible_alias = "size", value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    meta: Option<u64>,

    /// Size of the data device
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    data: Option<u64>,
}

impl ResizeDevices {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let request = ResizeDevicesRequest { meta_bytes: self.meta, data_bytes: self.data };
        let reply = with_daemon(globals, async |mut client| {
            let reply = client.resize_devices(request).await;
            reply.map_err(|error| Error::client(live::socket(globals).display(), error))
        })?;
        let mut out = Output::new(globals.json);
        let mut reader = out.header("role bytes_before bytes_after")?;
        for device in &reply.devices {
            if reader == Reader::Gone {
                break;
            }
            reader = out.record(device, line)?;
        }
        out.finish()?;
        Ok(Outcome::Done)
    }
}

fn line(device: &ResizedDevice) -> String {
    format!("{} {} {}", device.role, device.bytes_before, device.bytes_after)
}
