//! Open files: each connection is one, and the usual limit of a shell is 1,024.
//!
//! The limit that counts may be raised by the process itself up to another one, which only the
//! administrator raises. Where that is too low the daemon serves all the same, and says so at the start
//! rather than when the first client too many is not let in.

use crate::config::NetLimits;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Devices, rings, wakers, control calls, the log.
const OTHERS: u64 = 256;

/// Takes as many as we may have.
pub fn take_all() -> Result<(), Errno> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// What there is to say where the connections of `limits` do not fit.
pub fn complaint(limits: NetLimits) -> Option<String> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let needed = u64::from(limits.connections_max) + OTHERS;
    (soft < needed).then(|| {
        format!(
            "nfs.connections_max is {}, and this process may open only {soft} files: raise the limit \
             (LimitNOFILE={needed} in systemd, ulimit -n)",
            limits.connections_max
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_does_not_fit_is_said() {
        take_all().unwrap();
        let with = |connections_max| complaint(NetLimits { connections_max, ..NetLimits::DEFAULT });
        assert_eq!(with(1), None);
        let text = with(u32::MAX).unwrap();
        assert!(text.contains("4294967295") && text.contains("LimitNOFILE=4294967551"), "{text}");
    }
}
