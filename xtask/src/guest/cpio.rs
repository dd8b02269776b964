//! A writer for the archive the kernel unpacks into its first file system: cpio, format "newc".
//!
//! The kernel's Documentation/driver-api/early-userspace/buffer-format.rst describes it: per member
//! a magic, thirteen fields of eight hexadecimal digits, the name with a NUL, and the bytes, name
//! and bytes each padded to four. Archives may follow each other, so what is the same for all runs
//! and what belongs to one run are written apart and put one behind the other.

pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_755;
const SCRIPT: u32 = 0o100_755;

impl Archive {
    pub fn new() -> Archive {
        Archive { bytes: Vec::new(), inode: 0 }
    }

    /// A directory; those above it must have been added.
    pub fn folder(&mut self, name: &str) {
        self.member(name, DIRECTORY, &[]);
    }

    /// A file that may be executed.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.member(name, SCRIPT, content);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.member("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn member(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("members of a few MiB");
        let name_size = u32::try_from(name.len() + 1).expect("a short name");
        // inode, mode, uid, gid, links, mtime, size, device and special device, name, no checksum.
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by hand from the description of the format.
    #[test]
    fn a_member_has_the_bytes_of_the_format() {
        let mut archive = Archive::new();
        archive.file("init", b"#!x");
        let bytes = archive.finish();
        let head = concat!(
            "070701", "00000001", "000081ed", "00000000", "00000000", "00000001", "00000000",
            "00000003", "00000000", "00000000", "00000000", "00000000", "00000005", "00000000",
        );
        assert_eq!(&bytes[..110], head.as_bytes());
        assert_eq!(&bytes[110..120], b"init\0\0#!x\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }
}
