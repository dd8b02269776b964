//! What the guest is made of. Changing anything here, or how `image.rs`, `kernel.rs` and
//! `modules.rs` put it together, makes the cached image stale.
//!
//! The release is the host's, so that the C library is the same and binaries built here run there.
//! Debian 12's own kernel lacks ublk (`CONFIG_BLK_DEV_UBLK` is not set); the newer one of its
//! backports has it. Later releases have it in their own kernel.

/// Debian packages of the guest, without what they recommend.
pub const PACKAGES: &[&str] = &[
    // To come up and to look around.
    "bash",
    "coreutils",
    "iproute2",
    "kmod",
    "netbase", // mount.nfs looks up protocols in /etc/protocols
    "pciutils",
    "procps",
    "strace",
    "util-linux",
    // Clients and servers.
    "nfs-common",
    "nfs-kernel-server",
    "nvme-cli",
    // What the suites call.
    "acl",
    "attr",
    "e2fsprogs",
    "fio",
    "git",
    "python3-minimal",
    "rsync",
    "sqlite3",
    "xfsprogs",
];

/// Packages the host needs to boot a guest. `host.rs` installs them, and those below.
pub const BOOT_PACKAGES: &[&str] = &["qemu-system-x86"];

/// Packages the host needs to build the image.
pub const BUILD_PACKAGES: &[&str] =
    &["busybox-static", "e2fsprogs", "kmod", "mmdebstrap", "xz-utils", "zstd"];

/// Loaded before the disk is there, in this order (each after what it depends on).
pub const EARLY_MODULES: &[&str] =
    &["virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4", "9p", "9pnet_virtio"];

/// On the disk, for `modprobe` or loaded by the kernel on demand, with what they depend on.
pub const MODULES: &[&str] = &[
    // NFS, both sides.
    "nfs",
    "nfsv3",
    "nfsv4",
    "nfsd",
    "rpcsec_gss_krb5",
    // Devices.
    "nvme",
    "nvme_tcp",
    "nvmet",
    "nvmet_tcp",
    "ublk_drv",
    "vfio_pci",
    "vfio_iommu_type1",
    "loop",
    "null_blk",
    "dm_mod",
    "dm_flakey",
    "dm_log_writes",
    "dm_delay",
    // File systems and networks.
    "xfs",
    "overlay",
    "fuse",
    "veth",
    "tun",
    "sch_netem",
    "tls",
];

/// Never compressed and mostly holes: room for pools without any of the guest's memory.
pub const DISK_BYTES: u64 = 12 << 30;

/// The suite of the archive that has a kernel with ublk, for the host's release.
pub fn kernel_suite(codename: &str) -> String {
    match codename {
        "bookworm" => "bookworm-backports".to_owned(),
        later => later.to_owned(),
    }
}

/// Names one recipe: equal exactly when the image would be made in the same way.
pub fn stamp(codename: &str) -> String {
    let parts = [
        codename,
        include_str!("recipe.rs"),
        include_str!("image.rs"),
        include_str!("kernel.rs"),
        include_str!("modules.rs"),
        include_str!("init.sh"),
    ];
    format!("{codename}-{:016x}", fnv_1a(&parts))
}

/// FNV-1a over the parts and their lengths: not against malice, and the same on every toolchain.
fn fnv_1a(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain(part.len().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_is_another_recipe() {
        assert_ne!(stamp("bookworm"), stamp("trixie"));
        assert_eq!(stamp("bookworm"), stamp("bookworm"));
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_hash() {
        assert_ne!(fnv_1a(&["ab", "c"]), fnv_1a(&["a", "bc"]));
        // The published test vector of FNV-1a for no bytes is its offset basis.
        assert_eq!(fnv_1a(&[]), 0xcbf2_9ce4_8422_2325);
    }
}
