//! Devices as an operator names and measures them: by role and in bytes, where the engine has numbers
//! and blocks. What is wrong with a wish to resize is found here, where it can be said in words; the
//! engine looks again, without words.

use crate::bridge::CallError;
use crate::proto;
use crate::status;
use cairn_base::door::MediaError;
use cairn_base::{BLOCK_BYTES, DeviceId};
use cairn_engine::error::FsError;
use cairn_engine::{DeviceSpace, Grow, Resized};
use tonic::Status;

const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const ENXIO: i32 = 6;
const BLOCK: u64 = BLOCK_BYTES as u64;

fn role(device: &DeviceSpace) -> &'static str {
    match (device.holds_nodes, device.holds_data) {
        (true, true) => "mixed",
        (true, false) => "meta",
        (false, _) => "data",
    }
}

pub(crate) fn status(device: &DeviceSpace) -> proto::DeviceStatus {
    proto::DeviceStatus {
        role: role(device).into(),
        bytes: device.blocks * BLOCK,
        bytes_more: device.blocks_more * BLOCK,
    }
}

pub(crate) fn df_entry(device: &DeviceSpace) -> proto::DfEntry {
    proto::DfEntry {
        role: role(device).into(),
        block_bytes: BLOCK,
        blocks_total: device.blocks,
        blocks_used: device.blocks - device.blocks_free,
        blocks_free: device.blocks_free,
        blocks_more: device.blocks_more,
    }
}

/// What the engine is to do. Sizes are rounded down to whole blocks.
pub(crate) fn plan(
    devices: &[DeviceSpace],
    request: &proto::ResizeDevicesRequest,
) -> Result<Vec<Grow>, Status> {
    let proto::ResizeDevicesRequest { meta_bytes, data_bytes } = *request;
    let all = meta_bytes.is_none() && data_bytes.is_none();
    let mut wanted = Vec::new();
    for (index, device) in (0..).zip(devices) {
        let bytes = if device.holds_nodes { meta_bytes } else { data_bytes };
        if let Some(bytes) = bytes {
            refuse_size(device, bytes / BLOCK)?;
        }
        if all || bytes.is_some() {
            let blocks = bytes.map(|bytes| bytes / BLOCK);
            wanted.push(Grow { device: DeviceId(index), blocks });
        }
    }
    if data_bytes.is_some() && devices.iter().all(|device| device.holds_nodes) {
        return Err(status::invalid(
            "the pool has no data device: its only device is resized with --meta",
        ));
    }
    Ok(wanted)
}

fn refuse_size(device: &DeviceSpace, blocks: u64) -> Result<(), Status> {
    let (role, has, wanted) = (role(device), device.blocks * BLOCK, blocks * BLOCK);
    if blocks < device.blocks {
        return Err(status::invalid(&format!(
            "the {role} device has {has} bytes in the pool and devices do not shrink: {wanted} is \
             less; copy the files to a smaller pool"
        )));
    }
    let there = device.blocks + device.blocks_more;
    if blocks > there && !device.can_lengthen {
        return Err(status::invalid(&format!(
            "the {role} device has {} bytes, {wanted} are asked for: make the device larger first",
            there * BLOCK
        )));
    }
    if i64::try_from(wanted).is_err() {
        return Err(status::invalid(&format!("{wanted} bytes are more than a device can have")));
    }
    Ok(())
}

/// Why the engine could not. A file in the place of a device may be as long as its file system lets it
/// be, which only trying tells.
pub(crate) fn failure(error: CallError) -> Status {
    match error {
        CallError::Fs(FsError::Busy) => {
            status::in_use("a check is running: resize when it has ended")
        }
        CallError::Fs(FsError::Media { block, error: MediaError::OutOfRange }) => {
            let text = format!(
                "device {} ends at byte {}, which is less than the pool has on it: it was cut short, \
                 and what lay behind is lost; look at it before anything else is written",
                block.device().0,
                block.index() * BLOCK
            );
            status::unavailable(ENXIO, text)
        }
        CallError::Fs(FsError::Media {
            error: MediaError::Write(errno @ (EFBIG | ENOSPC)),
            ..
        }) => {
            let text = match errno {
                EFBIG => "its file cannot be so long: the file system it is on sets a limit",
                _ => "its file cannot be so long: the file system it is on is full",
            };
            status::unavailable(errno, text.into())
        }
        other => status::of_call(other),
    }
}

pub(crate) fn resized(devices: &[DeviceSpace], done: &[Resized]) -> proto::ResizeDevicesReply {
    let device = |resized: &Resized| proto::ResizedDevice {
        role: devices.get(usize::from(resized.device.0)).map_or("", role).into(),
        bytes_before: resized.before * BLOCK,
        bytes_after: resized.after * BLOCK,
    };
    proto::ResizeDevicesReply { devices: done.iter().map(device).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: DeviceSpace = DeviceSpace {
        holds_nodes: true,
        holds_data: false,
        blocks: 100,
        blocks_free: 50,
        blocks_more: 10,
        can_lengthen: false,
    };

    fn ask(meta: Option<u64>, data: Option<u64>) -> Result<Vec<Grow>, String> {
        let devices = [META, DeviceSpace { holds_nodes: false, holds_data: true, ..META }];
        let request = proto::ResizeDevicesRequest { meta_bytes: meta, data_bytes: data };
        plan(&devices, &request).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn without_a_size_every_device_takes_up_all_it_has() {
        let all = |index| Grow { device: DeviceId(index), blocks: None };
        assert_eq!(ask(None, None), Ok(vec![all(0), all(1)]));
        let data = Grow { device: DeviceId(1), blocks: Some(105) };
        assert_eq!(ask(None, Some(105 * 4096 + 5)), Ok(vec![data]), "one alone, in whole blocks");
    }

    #[test]
    fn a_size_that_cannot_be_is_refused_in_words() {
        let shrunk = ask(Some(99 * 4096), None).unwrap_err();
        assert!(shrunk.contains("409600") && shrunk.contains("shrink"), "{shrunk}");
        let long = ask(None, Some(111 * 4096)).unwrap_err();
        assert!(long.contains("450560") && long.contains("data"), "{long}");
        let file = DeviceSpace { can_lengthen: true, holds_data: true, ..META };
        let request = |data_bytes| proto::ResizeDevicesRequest { meta_bytes: None, data_bytes };
        let no_data = plan(&[file], &request(Some(500 * 4096))).unwrap_err();
        assert!(no_data.message().contains("--meta"), "{no_data:?}");
        let mut meta = request(None);
        meta.meta_bytes = Some(500 * 4096);
        assert!(plan(&[file], &meta).is_ok(), "a file is made longer");
        meta.meta_bytes = Some(1 << 63);
        let long = plan(&[file], &meta).unwrap_err();
        assert!(long.message().contains("more than a device can have"), "{long:?}");
    }

    #[test]
    fn a_file_system_that_refuses_the_length_is_not_told_as_a_broken_device() {
        let block = cairn_base::BlockNo::new(DeviceId(0), 7);
        let failed = |errno| FsError::Media { block, error: MediaError::Write(errno) };
        let told = |errno| failure(CallError::Fs(failed(errno))).message().to_owned();
        assert!(told(EFBIG).contains("sets a limit"), "{}", told(EFBIG));
        assert!(told(ENOSPC).contains("is full"), "{}", told(ENOSPC));
        assert!(told(5).contains("device failed"), "{}", told(5));
    }
}
